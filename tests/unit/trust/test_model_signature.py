"""The weights carry a signature that the public tool of OpenSSF Model Signing accepts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bundles import private_keys
from bundles.errors import SignatureRefused
from bundles.keys import Keyring
from bundles.model_signature import PUBLIC_KEY, SIGNATURE, signature_files
from bundles.publish import publish
from tests.support.small_bundles import NOW, blank_release, tree
from tests.unit.bundles.site import Site, flip_bit

SHARD = "weights/target/consolidated.safetensors"


@pytest.fixture
def slot(tmp_path: Path, keyring: Keyring, site: Site) -> Path:
    medium = publish(tree(), blank_release(), keyring, out=tmp_path / "medium", now=NOW).folder
    return site.import_(medium)


def stock_tool(slot: Path, *, signature: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command that docs/trust.md gives to auditors."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--no-ignore-git-paths"]
    command += ["--public_key", str(slot / PUBLIC_KEY), "--signature", str(signature or slot / SIGNATURE)]
    return subprocess.run([*command, str(slot / "weights")], check=False, capture_output=True, text=True)


def test_the_stock_tool_accepts_the_weights_and_refuses_one_flipped_bit(slot: Path) -> None:
    accepted = stock_tool(slot)
    assert accepted.returncode == 0, accepted.stderr
    assert "succeeded" in accepted.stdout.lower()

    shard = slot / SHARD
    content = shard.read_bytes()
    shard.unlink()  # the slot's own name of it; the store keeps its bytes
    shard.write_bytes(content)
    flip_bit(shard, len(content) - 1)

    refused = stock_tool(slot)
    assert refused.returncode != 0
    assert "consolidated.safetensors" in refused.stdout + refused.stderr


def test_the_stock_tool_refuses_a_file_more_and_a_file_less(slot: Path) -> None:
    (slot / "weights/target/more.json").write_bytes(b"{}")
    assert stock_tool(slot).returncode != 0

    (slot / "weights/target/more.json").unlink()
    (slot / "weights/target/tekken.json").unlink()
    assert stock_tool(slot).returncode != 0


def test_the_same_files_and_key_give_the_same_signature(keyring: Keyring, tmp_path: Path) -> None:
    reports = [publish(tree(), blank_release(), keyring, out=tmp_path / name, now=NOW) for name in ("one", "other")]

    assert reports[0].release == reports[1].release
    assert reports[0].sections["signatures"] > 500


def test_without_a_weights_key_there_is_no_signature(keyring: Keyring, tmp_path: Path) -> None:
    (keyring.directory / "weights.pem").unlink()

    report = publish(tree(), blank_release(), keyring, out=tmp_path / "out", now=NOW)

    assert "signatures" not in report.sections


def test_without_weights_there_is_nothing_to_sign() -> None:
    assert signature_files([], private_keys.generate(private_keys.ECDSA)) == {}


def test_a_key_that_the_tool_does_not_take_is_refused(keyring: Keyring, tmp_path: Path) -> None:
    quantum = private_keys.generate(private_keys.MLDSA)
    (keyring.directory / "weights.pem").write_bytes(private_keys.private_pem(quantum, None))

    with pytest.raises(SignatureRefused, match="elliptic curves"):
        publish(tree(), blank_release(), keyring, out=tmp_path / "out", now=NOW)

    assert not (tmp_path / "out").exists()
