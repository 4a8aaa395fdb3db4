from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bundles.ceremony import renew
from bundles.errors import KeyringExists, MediaMissing, SignatureRefused
from bundles.keys import Keyring
from bundles.layout import open_bundle
from bundles.publish import publish
from bundles.release import BundleKind, Release
from bundles.verify import verify_content
from tests.support.small_bundles import NOW
from tests.unit.bundles.site import Site


def test_a_publishers_keyring_has_the_thresholds_of_the_design(keyring: Keyring) -> None:
    root = keyring.root

    assert {name: (role.threshold, len(role.keyids)) for name, role in root.roles.items()} == {
        "root": (2, 3),
        "targets": (2, 3),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    assert sorted(root.keys[key_id].scheme for key_id in root.roles["root"].keyids) == [
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp384",
        "ml-dsa-87/1",
    ]


def test_private_keys_are_readable_by_their_owner_only(keyring: Keyring) -> None:
    assert stat.S_IMODE(keyring.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keyring.directory.glob("*.pem")} == {0o600}
    assert len(list(keyring.directory.glob("*.pem"))) == 8


def test_existing_keys_are_never_overwritten(keyring: Keyring) -> None:
    before = {path: path.read_bytes() for path in keyring.directory.iterdir()}

    with pytest.raises(KeyringExists):
        Keyring.create(keyring.directory, now=NOW)

    assert {path: path.read_bytes() for path in keyring.directory.iterdir()} == before


def test_a_new_keyring_is_durable_before_and_after_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    place = tmp_path / "keys"
    monkeypatch.setattr("bundles.keys.fsync_folder", lambda path: synced.append((path.name, place.exists())))

    Keyring.create_site(place, now=NOW)

    assert synced == [(".keys.partial", False), (tmp_path.name, True)]


def test_a_folder_without_a_root_is_no_keyring(tmp_path: Path) -> None:
    with pytest.raises(MediaMissing):
        Keyring.load(tmp_path)


def test_a_keyring_signs_with_the_keys_that_are_there_down_to_the_threshold(keyring: Keyring) -> None:
    (keyring.directory / "targets-3.pem").unlink()
    assert len(keyring.signers("targets")) == 2

    (keyring.directory / "targets-2.pem").unlink()
    with pytest.raises(SignatureRefused, match="holds 1 of them"):
        keyring.signers("targets")


def test_replacing_a_key_keeps_the_old_one_beside_the_new(keyring: Keyring) -> None:
    old = (keyring.directory / "targets-1.pem").read_bytes()
    fingerprint = keyring.fingerprint

    renew(keyring, "targets-1", now=NOW)

    assert (keyring.directory / "targets-1.retired-v1.pem").read_bytes() == old
    assert (keyring.directory / "targets-1.pem").read_bytes() != old
    assert len(keyring.roots()) == 2
    assert keyring.fingerprint == fingerprint


def test_a_sites_evidence_passes_the_same_verifier(tmp_path: Path) -> None:
    keyring = Keyring.create_site(tmp_path / "keys", now=NOW)
    evidence = Release(
        kind=BundleKind.EVIDENCE,
        name="evidence",
        version="2026.11.24",
        epoch=3,
        rollback_floor=1,
        created_at=NOW,
        files=(),
        licenses=(),
        pair=None,
        engine=None,
        requirements=None,
    )

    report = publish({"audit/log.jsonl": b"{}\n"}, evidence, keyring, out=tmp_path / "out", now=NOW)

    bundle = open_bundle(report.folder)
    verified = Site.trusting(tmp_path / "auditor", keyring).trust.check(bundle, now=NOW)
    assert verified.release.kind is BundleKind.EVIDENCE
    assert [(role.role, role.threshold) for role in verified.roles if role.role == "root"] == [("root", 2)]
    assert not verify_content(bundle, verified.release)
    assert report.bootstrap_fingerprint is None
