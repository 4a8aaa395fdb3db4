from __future__ import annotations

import pytest

from bundles.errors import ReleaseInvalid
from bundles.manifest import MAX_DEPTH, MAX_PATH_CHARACTERS, check_path, check_paths, section


@pytest.mark.parametrize(
    "path",
    [
        "release",
        "os/debian-12/pool/main/libstdc++6_12.2.0-14+deb12u1~bpo_amd64.deb",
        "playbooks/roles/engine/molecule/_shared/main.yml",
        "appliance/wheels/leeward-26.11.0-py3-none-any.whl",
        "weights/target/consolidated-00001-of-00027.safetensors",
        "weights/target/LICENSE",
        "weights/draft/LICENSE-MIT.txt",
        "licenses/target/notice@2.md",
    ],
)
def test_names_that_debian_wheels_and_ansible_use_are_allowed(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/..",
            "a/./b",
            ".hidden",
            "-rf",
            "a b",
            "a\nb",
            "a\0b",
            "a\\b",
            "C:x",
        ),
        *("a.", "con", "NUL.txt", "x/lpt1.yml", "é", "a\u0301", "\ufb01le", "x" * 162, "a*", "a?", "~root", "a%2e"),
        "/".join("a" * (MAX_DEPTH + 1)),
        "a/" * (MAX_DEPTH - 1) + "b/" * MAX_PATH_CHARACTERS,
    ],
)
def test_other_names_are_refused(path: str) -> None:
    with pytest.raises(ReleaseInvalid):
        check_path(path)


@pytest.mark.parametrize(
    "name", ["model.bin", "m.pt", "m.PTH", "m.pkl", "load.py", "m.npz", "model", "run.sh", "x.yaml", "m.gguf"]
)
def test_weights_hold_only_formats_without_code(name: str) -> None:
    with pytest.raises(ReleaseInvalid):
        check_path(f"weights/draft/{name}")
    with pytest.raises(ReleaseInvalid):
        check_path(f"Weights/draft/{name}")
    if not name.startswith("x."):
        check_path(f"playbooks/{name}")


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (["a/b", "a/b"], "twice"),
        (["a/b", "a/B"], "differ only in case"),
        (["Roles/x", "roles/y"], "differ only in case"),
        (["a", "a/b"], "both a file and a folder"),
        (["a/b/c", "a/b"], "both a file and a folder"),
    ],
)
def test_paths_that_collide_are_refused(paths: list[str], told: str) -> None:
    with pytest.raises(ReleaseInvalid) as caught:
        check_paths(paths)

    assert told in caught.value.detail


def test_sections_are_the_parts_that_people_know() -> None:
    assert section("weights/target/params.json") == "weights/target"
    assert section("engine/wheels/x.whl") == "engine"
    assert section("README") == "README"
