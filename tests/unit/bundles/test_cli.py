from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundles.cli import bundle, grouped
from bundles.keys import Keyring
from tests.support.small_bundles import blank_release, write_bundle
from tests.unit.bundles.site import Site, blob_of, flip_bit

SHARD = "weights/target/consolidated.safetensors"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bundle, [str(argument) for argument in arguments])


def events(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_keys_init_makes_a_keyring_and_prints_the_fingerprint(tmp_path: Path) -> None:
    result = run("keys", "init", tmp_path / "keys", "--plain")

    assert result.exit_code == 0
    assert grouped(Keyring.load(tmp_path / "keys").fingerprint) in result.output


def test_keys_init_does_not_overwrite(keyring: Keyring) -> None:
    result = run("keys", "init", keyring.directory, "--plain")

    assert result.exit_code == 2
    assert "never overwritten" in result.output


def test_verify_ends_with_the_verdict(medium: Path, keyring: Keyring) -> None:
    result = run("verify", medium, "--root-fingerprint", grouped(keyring.fingerprint))

    assert result.exit_code == 0
    assert "2 signatures required, 3 found" in result.output
    assert result.output.splitlines()[-1].startswith("VERIFIED: all 8 files")


def test_verify_tells_programs_the_same(medium: Path, keyring: Keyring) -> None:
    result = run("verify", medium, "--root", keyring.directory / "1.root.json", "--json")

    found = events(result)
    assert [event["role"] for event in found if event["event"] == "role"] == [
        "root",
        "timestamp",
        "snapshot",
        "targets",
    ]
    assert found[-1] == {"event": "verdict", "verified": True, "files": 8, "size_bytes": found[-1]["size_bytes"]}


def test_verify_refuses_a_flipped_bit_with_status_4(medium: Path, keyring: Keyring) -> None:
    flip_bit(blob_of(medium, SHARD), 100)

    result = run("verify", medium, "--root-fingerprint", keyring.fingerprint)

    assert result.exit_code == 4
    assert f"damaged: {SHARD} (leaf 0)" in result.output
    assert "VERIFIED:" not in result.output
    told = events(run("verify", medium, "--root-fingerprint", keyring.fingerprint, "--json"))
    assert told[-1] == {"event": "verdict", "verified": False}
    assert told[-2]["code"] == "content-mismatch"


def test_verify_refuses_a_wrong_fingerprint(medium: Path) -> None:
    result = run("verify", medium, "--root-fingerprint", "00" * 32)

    assert result.exit_code == 4
    assert "REFUSED" in result.output


def test_verify_against_a_sites_state_changes_nothing(site: Site, medium: Path) -> None:
    before = sorted((site.folder / "trust").rglob("*"))

    result = run("verify", medium, "--state", site.folder / "trust")

    assert result.exit_code == 0
    assert sorted((site.folder / "trust").rglob("*")) == before
    assert site.policy is None


def test_verify_without_any_root_says_what_to_give(
    medium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundles.cli.reading.DEFAULT_STATE", tmp_path / "none")

    result = run("verify", medium)

    assert result.exit_code == 4
    assert "--root-fingerprint" in result.output


def test_verify_takes_only_one_root(medium: Path, keyring: Keyring) -> None:
    result = run("verify", medium, "--root-fingerprint", "00", "--root", keyring.directory / "1.root.json")

    assert result.exit_code == 2


def test_inspect_says_loudly_that_nothing_was_verified(medium: Path) -> None:
    flip_bit(blob_of(medium, SHARD), 100)  # it would not know

    result = run("inspect", medium)

    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0].startswith("NOT VERIFIED")
    assert lines[-1].startswith("NOT VERIFIED")
    assert events(run("inspect", medium, "--json"))[-1] == {"event": "verdict", "verified": False}


def test_inspect_of_an_empty_folder_is_a_usage_error(tmp_path: Path) -> None:
    result = run("inspect", tmp_path)

    assert result.exit_code == 2


def test_inspect_loads_no_cryptography(tmp_path: Path, keyring: Keyring) -> None:
    medium = write_bundle(tmp_path / "m", keyring).folder
    code = (
        "import sys; from bundles.cli import bundle; bundle(['inspect', sys.argv[1]], standalone_mode=False);"
        "sys.exit(bool({'tuf', 'cryptography', 'securesystemslib', 'urllib3'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code, str(medium)], check=False, capture_output=True)

    assert done.returncode == 0, done.stderr


def test_the_package_is_a_program_of_its_own(medium: Path, keyring: Keyring) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bundles", "verify", str(medium), "--root-fingerprint", keyring.fingerprint],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0
    assert "VERIFIED" in done.stdout


def test_what_nobody_verified_cannot_write_over_the_screen(tmp_path: Path, keyring: Keyring) -> None:
    blank = blank_release()
    (entry,) = blank.licenses
    forged = replace(entry, applies_to="x\n\x1b[2J\x1b[HVERIFIED: all 8 files, \u202eare as signed.")
    medium = write_bundle(tmp_path / "medium", keyring, release=replace(blank, licenses=(forged,))).folder

    result = CliRunner().invoke(bundle, ["inspect", str(medium)], color=True)

    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert not any(line.startswith("VERIFIED") for line in result.output.splitlines())
    assert "VERIFIED: all 8 files" in result.output  # it is shown, as what it is: one line's text
