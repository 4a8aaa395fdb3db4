from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError, ExpiredMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType
from tuf.ngclient.fetcher import FetcherInterface

from bundles.ceremony import renew
from bundles.digest import sha256_hex
from bundles.errors import (
    ContentMismatch,
    LeewardError,
    ReleaseExpired,
    ReleaseInvalid,
    RollbackRefused,
    SignatureRefused,
    TrustError,
    TrustRootMissing,
)
from bundles.keys import Keyring
from bundles.layout import open_bundle, peek
from bundles.signing import Expiry, signed_bytes
from bundles.trust import TrustStore, check_policy
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle
from tests.unit.bundles.site import Site, canonical, flip_bit, resign


def release_at(tmp_path: Path, keyring: Keyring, epoch: int, *, rollback_floor: int = 1) -> Path:
    """Publish a release with this epoch."""
    release = blank_release(epoch=epoch, version=f"26.11.{epoch}", rollback_floor=rollback_floor)
    return write_bundle(tmp_path / f"medium-{epoch}", keyring, release=release, files=tree(seed=epoch)).folder


def refused(site: Site, medium: Path, error: type[LeewardError], *, now: datetime = NOW) -> LeewardError:
    """Import, see the refusal, and see that neither slots nor trust changed."""
    slots, policy, stored = site.slots(), site.policy, site.stored()

    with pytest.raises(error) as caught:
        site.import_(medium, now=now)

    assert (site.slots(), site.policy, site.stored()) == (slots, policy, stored)
    return caught.value


def test_the_reference_time_of_python_tuf_is_where_we_set_it(keyring: Keyring) -> None:
    """Guards the private attribute that `bundles.trust` sets; an upgrade of tuf must look here."""
    trusted = TrustedMetadataSet(keyring.roots()[0], EnvelopeType.METADATA)
    assert isinstance(trusted.reference_time, datetime)
    trusted.reference_time = NOW + timedelta(days=20 * 365)
    timestamp = Timestamp(expires=NOW + timedelta(days=30 * 365))

    with pytest.raises(ExpiredMetadataError, match=r"root\.json is expired"):
        trusted.update_timestamp(signed_bytes(timestamp, keyring.signers("timestamp")))


def test_without_an_anchor_nothing_is_trusted(tmp_path: Path, medium: Path) -> None:
    with pytest.raises(TrustRootMissing):
        TrustStore(tmp_path / "empty").check(open_bundle(medium), now=NOW)


def test_an_anchor_needs_the_fingerprint_from_paper(tmp_path: Path, keyring: Keyring) -> None:
    trust = TrustStore(tmp_path / "trust")

    with pytest.raises(SignatureRefused):
        trust.anchor(keyring.roots()[0], "0" * 64)

    assert trust.root_fingerprint is None
    pairs = [keyring.fingerprint[at : at + 2].upper() for at in range(0, 64, 2)]
    trust.anchor(keyring.roots()[0], " " + ":".join(pairs) + "\n")
    assert trust.root_fingerprint == keyring.fingerprint


def test_an_anchor_is_not_replaced_by_another(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    other = Keyring.create(tmp_path / "other", now=NOW)

    with pytest.raises(SignatureRefused):
        site.trust.anchor(other.roots()[0], other.fingerprint)

    assert site.trust.root_fingerprint == keyring.fingerprint


def test_an_anchor_must_be_signed_by_an_mldsa_key(tmp_path: Path, keyring: Keyring) -> None:
    root = keyring.root
    classical = tuple(s for s in keyring.signers("root") if s.public_key.keytype == "ecdsa")
    assert len(classical) == 2
    content = signed_bytes(root, classical)
    trust = TrustStore(tmp_path / "trust")

    with pytest.raises(SignatureRefused, match="ML-DSA"):
        trust.anchor(content, _fingerprint(content))

    assert trust.root_fingerprint is None


def test_a_check_returns_who_signed_and_what_was_required(site: Site, medium: Path, keyring: Keyring) -> None:
    verified = site.trust.check(open_bundle(medium), now=NOW)

    targets = next(role for role in verified.roles if role.role == "targets")
    assert targets.threshold == 2
    assert [name.split()[0] for name in targets.signed] == ["targets-1", "targets-2", "targets-3"]
    assert verified.root_fingerprint == keyring.fingerprint
    assert verified.known_epoch is None
    assert site.policy is None  # nothing is adopted by looking


def test_a_release_by_an_unknown_signer_is_refused_and_the_key_is_named(tmp_path: Path, site: Site) -> None:
    stranger = Keyring.create(tmp_path / "stranger", now=NOW)
    medium = write_bundle(tmp_path / "medium", stranger).folder

    error = refused(site, medium, SignatureRefused)

    assert "unknown" in error.detail
    assert stranger.signers("timestamp")[0].public_key.keyid[:16] in error.detail


def test_a_release_with_one_of_two_signatures_is_refused(site: Site, medium: Path, keyring: Keyring) -> None:
    resign_with(medium, keyring, targets_signers=keyring.signers("targets")[:1])

    error = refused(site, medium, SignatureRefused)

    assert "targets version 1: 2 signatures required, 1 found" in error.detail
    assert "signed by targets-1" in error.detail
    assert "not signed by targets-2" in error.detail


def test_one_stolen_key_signing_with_a_strangers_key_is_refused(
    tmp_path: Path, site: Site, medium: Path, keyring: Keyring
) -> None:
    stranger = Keyring.create(tmp_path / "stranger", now=NOW)
    resign_with(medium, keyring, targets_signers=(*keyring.signers("targets")[:1], *stranger.signers("targets")[:1]))

    error = refused(site, medium, SignatureRefused)

    assert "1 found" in error.detail
    assert "signed by unknown keys" in error.detail


def test_a_release_older_than_the_current_one_is_refused_with_both_versions(
    tmp_path: Path, site: Site, keyring: Keyring
) -> None:
    old, new = release_at(tmp_path, keyring, 1), release_at(tmp_path, keyring, 2)
    site.import_(new)

    error = refused(site, old, RollbackRefused)

    assert "timestamp 1" in error.detail
    assert "timestamp 2" in error.detail
    assert site.slots() == ["26.11.2-e2"]


def test_another_release_under_an_accepted_epoch_is_refused(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    site.import_(write_bundle(tmp_path / "a", keyring).folder)
    twin = write_bundle(tmp_path / "b", keyring, files=tree(seed=5)).folder

    error = refused(site, twin, RollbackRefused)

    assert "higher epoch" in error.remedy


def test_the_rollback_floor_of_the_newest_release_is_remembered(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    site.import_(release_at(tmp_path, keyring, 3, rollback_floor=2))

    assert site.policy is not None
    assert site.policy.rollback_floor == 2
    with pytest.raises(RollbackRefused):
        check_policy(blank_release(epoch=1), targets_version=1, policy=site.policy)


def test_an_epoch_that_is_not_the_signed_version_is_refused(site: Site, medium: Path, keyring: Keyring) -> None:
    release = replace(peek(open_bundle(medium)), epoch=7)
    resign(medium, canonical(release), keyring, version=1)

    refused(site, medium, ReleaseInvalid)


def test_an_expired_release_is_refused_with_dates(site: Site, medium: Path) -> None:
    error = refused(site, medium, ReleaseExpired, now=NOW + timedelta(days=401))

    assert "timestamp until 2027-12-29" in error.detail
    assert "judged by 2027-12-30" in error.detail


def test_a_clock_set_back_revives_nothing(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    site.import_(release_at(tmp_path, keyring, 1), now=NOW + timedelta(days=30))
    short_lived = release_at(tmp_path, keyring, 2)
    content = canonical(peek(open_bundle(short_lived)))
    resign(short_lived, content, keyring, version=2, expiry=Expiry(targets_days=10))

    refused(site, short_lived, ReleaseExpired, now=datetime(1990, 1, 1, tzinfo=UTC))


def test_mixing_the_metadata_of_two_releases_is_refused(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    old, new = release_at(tmp_path, keyring, 1), release_at(tmp_path, keyring, 2)
    (new / "metadata/2.targets.json").write_bytes((old / "metadata/1.targets.json").read_bytes())

    refused(site, new, ContentMismatch)


@pytest.mark.parametrize("name", ["1.targets.json", "1.snapshot.json", "timestamp.json"])
def test_tampered_metadata_is_refused_also_when_the_same_version_was_accepted_before(
    site: Site, medium: Path, name: str
) -> None:
    site.import_(medium)
    path = medium / "metadata" / name
    content = path.read_bytes()
    flip_bit(path, content.index(b'"sig":"') + 20)

    refused(site, medium, TrustError)


@pytest.mark.parametrize("name", ["1.targets.json", "1.snapshot.json", "timestamp.json"])
def test_missing_or_absurd_metadata_is_refused(site: Site, medium: Path, name: str) -> None:
    path = medium / "metadata" / name
    path.write_bytes(b"[" * 40_000)
    refused(site, medium, TrustError)
    path.write_bytes(b" " * 3_000_000)
    refused(site, medium, ContentMismatch)
    path.unlink()
    refused(site, medium, LeewardError)


def test_a_refused_medium_does_not_keep_the_next_honest_one_from_passing(
    tmp_path: Path, site: Site, keyring: Keyring
) -> None:
    bad, good = release_at(tmp_path, keyring, 5), release_at(tmp_path, keyring, 4)
    next((bad / "targets").iterdir()).write_bytes(b"{}")
    refused(site, bad, ContentMismatch)

    assert site.import_(good).name == "26.11.4-e4"


def test_the_root_is_rotated_by_its_old_and_new_keys(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    old = release_at(tmp_path, keyring, 1)
    site.import_(old)
    stolen = keyring.signers("targets")
    renew(keyring, "targets-1", now=NOW)
    renew(keyring, "root-1", now=NOW)
    new = release_at(tmp_path, keyring, 2)

    site.import_(new)

    verified = site.trust.check(open_bundle(new), now=NOW)
    assert verified.root_version == 3
    assert site.trust.root_fingerprint == keyring.fingerprint
    later = release_at(tmp_path, keyring, 3)
    resign_with(later, keyring, targets_signers=stolen[:1] + stolen[2:], version=3)
    error = refused(site, later, SignatureRefused)
    assert "1 found" in error.detail


def test_a_new_root_without_an_mldsa_signature_is_refused(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    classical = tuple(s for s in keyring.signers("root") if s.public_key.keytype == "ecdsa")
    medium = release_at(tmp_path, keyring, 1)
    root = keyring.root
    root.version = 2
    (medium / "metadata/2.root.json").write_bytes(signed_bytes(root, classical))

    error = refused(site, medium, SignatureRefused)

    assert "ML-DSA" in error.detail


def test_a_new_root_by_strangers_is_refused(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    stranger = Keyring.create(tmp_path / "stranger", now=NOW)
    renew(stranger, "targets-1", now=NOW)
    medium = release_at(tmp_path, keyring, 1)
    (medium / "metadata/2.root.json").write_bytes(stranger.roots()[1])

    error = refused(site, medium, SignatureRefused)

    assert "root version 2" in error.detail


def test_a_site_that_saw_a_new_root_does_not_go_back_to_the_old(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    old_keys = {role: keyring.signers(role) for role in ("targets", "snapshot", "timestamp")}
    for name in ("targets-1", "targets-2", "timestamp"):
        renew(keyring, name, now=NOW)
    site.import_(release_at(tmp_path, keyring, 1))
    replay = release_at(tmp_path, keyring, 2)
    resign_with(
        replay,
        keyring,
        targets_signers=old_keys["targets"],
        timestamp_signers=old_keys["timestamp"],
        version=2,
    )
    for number in (2, 3, 4):
        (replay / f"metadata/{number}.root.json").unlink()

    refused(site, replay, SignatureRefused)


def test_committing_after_something_newer_was_adopted_is_refused(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    older = site.trust.check(open_bundle(release_at(tmp_path, keyring, 1)), now=NOW)
    site.import_(release_at(tmp_path, keyring, 2))

    with pytest.raises(RollbackRefused):
        older.commit()

    assert site.policy is not None
    assert site.policy.epoch == 2


def test_committing_twice_does_no_harm(site: Site, medium: Path) -> None:
    verified = site.trust.check(open_bundle(medium), now=NOW)
    for _ in range(3):
        verified.commit()

    assert len(list((site.folder / "trust/states").iterdir())) == 1
    assert site.trust.check(open_bundle(medium), now=NOW).known_epoch == 1


def test_an_unmodified_tuf_client_accepts_our_metadata(tmp_path: Path, medium: Path, keyring: Keyring) -> None:
    class Files(FetcherInterface):
        def _fetch(self, url: str) -> Iterator[bytes]:
            path = medium / url.removeprefix("medium:")
            if not path.exists():
                raise DownloadHTTPError("missing", 404)
            return iter((path.read_bytes(),))

    (tmp_path / "tuf").mkdir()
    updater = Updater(
        str(tmp_path / "tuf"),
        "medium:metadata",
        str(tmp_path),
        "medium:targets",
        fetcher=Files(),
        bootstrap=keyring.roots()[0],
    )
    updater._trusted_set.reference_time = NOW
    target = updater.get_targetinfo("release.json")
    assert target is not None

    assert Path(updater.download_target(target)).read_bytes() == next((medium / "targets").iterdir()).read_bytes()


def resign_with(
    medium: Path,
    keyring: Keyring,
    *,
    targets_signers: tuple[CryptoSigner, ...],
    timestamp_signers: tuple[CryptoSigner, ...] | None = None,
    version: int = 1,
) -> None:
    """Sign the medium's targets again with these signers only, and what stands above it."""
    metadata = medium / "metadata"
    targets = Metadata[Targets].from_bytes((metadata / f"{version}.targets.json").read_bytes()).signed
    targets_json = signed_bytes(targets, targets_signers)
    (metadata / f"{version}.targets.json").write_bytes(targets_json)
    snapshot = Metadata[Snapshot].from_bytes((metadata / f"{version}.snapshot.json").read_bytes()).signed
    snapshot.meta["targets.json"] = MetaFile.from_data(version, targets_json, ["sha256"])
    snapshot_json = signed_bytes(snapshot, keyring.signers("snapshot"))
    (metadata / f"{version}.snapshot.json").write_bytes(snapshot_json)
    timestamp = Metadata[Timestamp].from_bytes((metadata / "timestamp.json").read_bytes()).signed
    timestamp.snapshot_meta = MetaFile.from_data(version, snapshot_json, ["sha256"])
    signers = timestamp_signers or keyring.signers("timestamp")
    (metadata / "timestamp.json").write_bytes(signed_bytes(timestamp, signers))


def _fingerprint(content: bytes) -> str:
    assert isinstance(Metadata.from_bytes(content).signed, Root)
    return sha256_hex(content)


@pytest.mark.parametrize("lost", ["states/1", "states/1/policy.json", "states/1/timestamp.json"])
def test_a_trusted_state_of_which_a_part_is_lost_is_no_fresh_start(
    tmp_path: Path, site: Site, keyring: Keyring, lost: str
) -> None:
    site.import_(release_at(tmp_path, keyring, 5))
    older = release_at(tmp_path, keyring, 4)
    place = site.folder / "trust" / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()

    with pytest.raises(TrustRootMissing) as caught:
        site.import_(older)

    assert "backup" in caught.value.remedy
    assert site.slots() == ["26.11.5-e5"]


def test_the_state_remembers_the_manifest_of_every_release_that_was_accepted(
    tmp_path: Path, site: Site, medium: Path, keyring: Keyring
) -> None:
    assert site.trust.accepted("26.11.0-e1") is None
    slots = [site.import_(medium)]
    second = write_bundle(tmp_path / "second", keyring, release=blank_release(epoch=2), files=tree(seed=2)).folder

    site.trust.check(open_bundle(second), now=NOW)
    assert site.trust.accepted("26.11.0-e2") is None  # checked is not accepted

    slots.append(site.import_(second))

    for slot in slots:
        assert site.trust.accepted(slot.name) == sha256_hex((slot / "release.json").read_bytes())


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"26.11.0-e1": 7}'])
def test_a_damaged_list_of_accepted_releases_is_refused_not_begun_anew(
    site: Site, medium: Path, content: bytes
) -> None:
    site.import_(medium)
    (site.folder / "trust/current/accepted.json").write_bytes(content)

    with pytest.raises(TrustRootMissing, match=r"accepted\.json"):
        site.trust.accepted("26.11.0-e1")
    with pytest.raises(TrustRootMissing, match=r"accepted\.json"):
        site.trust.check(open_bundle(medium), now=NOW)
