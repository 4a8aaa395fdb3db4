"""The two commands, from a node's inventory to the medium that travels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundles.cli import bundle
from bundles.delta.blocks import PREFIX
from bundles.keys import Keyring
from bundles.layout import open_bundle
from tests.support.small_bundles import NOW
from tests.unit.delta.conftest import SHARD, Journey
from tests.unit.delta.weights import many, safetensors_file


@pytest.fixture
def site_keys(tmp_path: Path) -> Path:
    return Keyring.create_site(tmp_path / "site-keys", now=NOW).directory


@pytest.fixture
def installed(journey: Journey) -> Journey:
    journey.site.import_(journey.release({SHARD: safetensors_file(many())}).path)
    journey.release({SHARD: safetensors_file(many(changed=frozenset({3})))}, epoch=2)
    return journey


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(bundle, [str(argument) for argument in arguments])


def places(journey: Journey, site_keys: Path) -> list[str | Path]:
    site = journey.site.folder
    return ["--store", site / "store", "--slots", site / "slots", "--keys", site_keys, "--node", "llm01"]


def test_a_delta_is_made_from_a_checked_inventory_and_says_what_it_is_worth(
    installed: Journey, site_keys: Path, tmp_path: Path
) -> None:
    taken = run("inventory", *places(installed, site_keys), "--out", tmp_path / "inventory.json")
    made = run(
        "delta",
        tmp_path / "bundle-2",
        "--inventory",
        tmp_path / "inventory.json",
        "--site-root",
        site_keys / "1.root.json",
        "--out",
        tmp_path / "delta",
    )

    assert taken.exit_code == 0, taken.output
    assert "llm01: 1 releases, 7 files intact, 0 damaged or missing" in taken.output
    assert made.exit_code == 0, made.output
    assert "signed by targets-1" in made.output
    assert "weights/target" in made.output
    assert "weights/draft                             0 of" in made.output
    assert (installed.import_delta(tmp_path / "delta") / SHARD).read_bytes() == safetensors_file(
        many(changed=frozenset({3}))
    )


def test_a_delta_is_verified_with_the_store_it_was_made_for_and_no_other(
    installed: Journey, keyring: Keyring, tmp_path: Path
) -> None:
    report = installed.delta(open_bundle(tmp_path / "bundle-2"))
    root = ["--root", keyring.directory / "1.root.json"]

    here = run("verify", report.folder, *root, "--store", installed.site.folder / "store")
    elsewhere = run("verify", report.folder, *root, "--store", tmp_path / "nowhere")

    assert here.exit_code == 0, here.output
    assert "VERIFIED: all 8 files" in here.output
    assert elsewhere.exit_code == 2
    assert "REFUSED" in elsewhere.output
    assert "does not fit this store" in elsewhere.output


def test_codes_carry_a_receipt_to_where_the_old_bundle_is(installed: Journey, site_keys: Path, tmp_path: Path) -> None:
    told = run("inventory", *places(installed, site_keys), "--receipt", "--blocks")
    lines = [line for line in told.output.splitlines() if line.startswith(PREFIX)]
    (tmp_path / "scanned.txt").write_text("\n".join(lines))

    made = run(
        "delta",
        "--json",
        tmp_path / "bundle-2",
        "--inventory",
        tmp_path / "scanned.txt",
        "--base",
        tmp_path / "bundle-1",
        "--out",
        tmp_path / "delta",
    )

    assert made.exit_code == 0, made.output
    events = [json.loads(line) for line in made.output.splitlines()]
    assert next(event for event in events if event["event"] == "inventory")["signed_by"] == []
    assert events[-1]["event"] == "delta"
    assert 2000 < events[-1]["carried_bytes"] < 6500  # one tensor and the header


def test_codes_are_drawn(installed: Journey, site_keys: Path) -> None:
    drawn = run("inventory", *places(installed, site_keys), "--receipt", "--qr")

    assert drawn.exit_code == 0, drawn.output
    assert "\u2588" in drawn.output or "\u2580" in drawn.output


def test_an_encrypted_keyring_is_opened_with_a_passphrase_before_anything_is_read(
    installed: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundles.private_keys.ROUNDS", 1000)
    keys = Keyring.create(tmp_path / "locked-keys", passphrase="correct horse", now=NOW).directory  # noqa: S106  a test's
    out = tmp_path / "inventory.json"
    (tmp_path / "right").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("battery staple\n")
    command = ["inventory", *places(installed, keys), "--out", out]

    with (tmp_path / "right").open() as secret:
        opened = run(*command, "--passphrase-fd", str(secret.fileno()))
    signed = out.read_bytes() if out.exists() else b""
    out.unlink(missing_ok=True)
    monkeypatch.setattr("bundles.delta.take.take_inventory", lambda **_options: pytest.fail("the store was read"))
    with (tmp_path / "wrong").open() as secret:
        refused = run(*command, "--passphrase-fd", str(secret.fileno()))
    alone = run(*command)

    assert opened.exit_code == 0, opened.output
    assert b"signatures" in signed
    assert (refused.exit_code, alone.exit_code) == (2, 2)
    assert "--passphrase-fd" in alone.output
    assert not out.exists()


def test_an_inventory_must_go_somewhere(installed: Journey, site_keys: Path) -> None:
    assert run("inventory", *places(installed, site_keys)).exit_code == 2


def test_what_is_no_root_or_no_inventory_is_refused(installed: Journey, site_keys: Path, tmp_path: Path) -> None:
    run("inventory", *places(installed, site_keys), "--out", tmp_path / "inventory.json")
    (tmp_path / "noise").write_bytes(b"noise")

    no_root = run(
        "delta",
        tmp_path / "bundle-2",
        "--inventory",
        tmp_path / "inventory.json",
        "--site-root",
        tmp_path / "noise",
        "--out",
        tmp_path / "delta",
    )
    no_inventory = run("delta", tmp_path / "bundle-2", "--inventory", tmp_path / "noise", "--out", tmp_path / "delta")

    assert (no_root.exit_code, no_inventory.exit_code) == (2, 2)
    assert "is no root.json" in no_root.output
    assert not (tmp_path / "delta").exists()


def test_a_delta_is_extracted_together_with_the_store_that_it_was_made_for(installed: Journey, tmp_path: Path) -> None:
    bundle_2 = open_bundle(tmp_path / "bundle-2")
    folder = installed.delta(bundle_2).folder
    trusted = ["--root-fingerprint", installed.keyring.fingerprint]

    done = run("extract", folder, "--out", tmp_path / "out", *trusted, "--store", installed.site.folder / "store")
    elsewhere = run("extract", folder, "--out", tmp_path / "nothing", *trusted, "--store", tmp_path / "empty")

    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / SHARD).read_bytes() == safetensors_file(many(changed=frozenset({3})))
    assert elsewhere.exit_code == 2
    assert "The delta does not fit this store" in elsewhere.output
    assert not (tmp_path / "nothing").exists()


def test_a_delta_is_not_spread_over_volumes_and_the_refusal_says_what_to_do(installed: Journey, tmp_path: Path) -> None:
    folder = installed.delta(open_bundle(tmp_path / "bundle-2")).folder

    result = run("split", folder, "--volume-size", "1GB", "--out", tmp_path / "set")

    assert result.exit_code == 2
    assert "is a delta" in result.output
    assert "Copy the delta's folder to one larger disk" in result.output
    assert not (tmp_path / "set").exists()
