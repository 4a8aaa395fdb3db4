from __future__ import annotations

from pathlib import Path

import pytest

from appliance.adapters.host.module_key import module_key
from appliance.adapters.host.tree import Tree

EFIVARS = "sys/firmware/efi/efivars"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
ATTRIBUTES = b"\x06\0\0\0"
KEY, OTHER = b"\x30\x82 the node's", b"\x30\x82 another's"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    put(tmp_path, f"{EFIVARS}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", ATTRIBUTES + b"\x01")
    put(tmp_path, "var/lib/dkms/mok.pub", KEY)
    return tmp_path


def put(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def test_a_machine_without_firmware_variables_has_nothing_to_say(tmp_path: Path) -> None:
    put(tmp_path, "var/lib/dkms/mok.pub", KEY)

    assert module_key(Tree(tmp_path)) is None


def test_a_key_that_the_firmware_has_not_heard_of_is_unknown_even_beside_others(node: Path) -> None:
    put(node, f"{EFIVARS}/MokListRT-{SHIM}", ATTRIBUTES + b"head" + OTHER)

    assert module_key(Tree(node)) == "unknown"


def test_a_key_that_waits_for_the_console_is_not_yet_enrolled(node: Path) -> None:
    put(node, f"{EFIVARS}/MokNew-{SHIM}", ATTRIBUTES + b"head" + KEY)

    assert module_key(Tree(node)) == "waiting"


def test_what_waits_is_asked_for_this_key_and_no_other(node: Path) -> None:
    put(node, f"{EFIVARS}/MokNew-{SHIM}", ATTRIBUTES + b"head" + OTHER)

    assert module_key(Tree(node)) == "unknown"


@pytest.mark.parametrize("part", ["MokListRT", "MokListRT2"])
def test_a_key_in_any_part_of_the_list_is_enrolled(node: Path, part: str) -> None:
    put(node, f"{EFIVARS}/MokListRT-{SHIM}", ATTRIBUTES + OTHER)
    put(node, f"{EFIVARS}/{part}-{SHIM}", ATTRIBUTES + b"head" + KEY + b"tail")

    assert module_key(Tree(node)) == "enrolled"


def test_a_variable_of_the_same_name_by_somebody_else_enrols_nothing(node: Path) -> None:
    put(node, f"{EFIVARS}/MokListRT-00000000-0000-0000-0000-000000000000", ATTRIBUTES + KEY)

    assert module_key(Tree(node)) == "unknown"


def test_before_anything_was_compiled_there_is_no_key(node: Path) -> None:
    (node / "var/lib/dkms/mok.pub").unlink()

    assert module_key(Tree(node)) == "none"


def test_where_ubuntu_has_made_its_own_key_that_one_counts(node: Path) -> None:
    put(node, "var/lib/shim-signed/mok/MOK.der", OTHER)
    put(node, f"{EFIVARS}/MokListRT-{SHIM}", ATTRIBUTES + KEY)

    assert module_key(Tree(node)) == "unknown"
