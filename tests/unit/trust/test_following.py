"""A revocation that travels in a bundle or alone, and a state that only grows from what was checked."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Timestamp

from bundles import trust_state
from bundles.ceremony import Change, begin, present_signers, renew, sign
from bundles.cli import bundle
from bundles.errors import LeewardError, ReleaseExpired, RollbackRefused, SignatureRefused, TrustRootMissing
from bundles.keys import Keyring
from bundles.layout import METADATA, open_bundle
from bundles.signing import signed_bytes
from bundles.trust import TrustStore
from bundles.verify import import_release
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle
from tests.unit.bundles.site import Site


def release_at(tmp_path: Path, keyring: Keyring, epoch: int, name: str = "medium") -> Path:
    release = blank_release(epoch=epoch, version=f"26.11.{epoch}")
    return write_bundle(tmp_path / f"{name}-{epoch}", keyring, release=release, files=tree(seed=epoch)).folder


def stolen(keyring: Keyring, tmp_path: Path) -> Keyring:
    """What a thief of two release signers and of the build host holds, before anybody knows."""
    shutil.copytree(keyring.directory, tmp_path / "stolen")
    for name in ("targets-3", "root-1", "root-2", "root-pq"):
        (tmp_path / "stolen" / f"{name}.pem").unlink()
    return Keyring.load(tmp_path / "stolen")


def refused(site: Site, act: Callable[[], object], error: type[LeewardError]) -> LeewardError:
    """Act, see the refusal, and see that nothing changed."""
    before = snapshot(site.folder)
    with pytest.raises(error) as caught:
        act()
    assert snapshot(site.folder) == before
    return caught.value


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


def test_a_revocation_that_travels_alone_stops_the_thief_at_once(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    thief = stolen(keyring, tmp_path)
    site.import_(release_at(tmp_path, keyring, 1))
    forged = release_at(tmp_path, thief, 2, "forged")
    site.trust.check(open_bundle(forged), now=NOW)  # as long as nobody knows, it would pass
    renew(keyring, "targets-1", "targets-2", now=NOW)

    changed = site.trust.follow(keyring.roots(), now=NOW)

    assert (changed.before, changed.after) == (1, 2)
    error = refused(site, lambda: site.import_(forged), SignatureRefused)
    assert "targets version 2: 2 signatures required, 0 found" in error.detail
    assert "signed by unknown keys" in error.detail
    assert site.import_(release_at(tmp_path, keyring, 3)).is_dir()


def test_a_revocation_that_travels_in_a_bundle_does_the_same(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    thief = stolen(keyring, tmp_path)
    renew(keyring, "targets-1", "targets-2", now=NOW)
    site.import_(release_at(tmp_path, keyring, 1))

    forged = release_at(tmp_path, thief, 2, "forged")

    refused(site, lambda: site.import_(forged), SignatureRefused)


def test_one_revoked_signer_leaves_one_of_two(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    thief = stolen(keyring, tmp_path)
    begin(keyring, Change(removed=frozenset({"targets-1"})), now=NOW)
    sign(keyring, present_signers(keyring))
    site.trust.follow(keyring.roots(), now=NOW)

    error = refused(site, lambda: site.import_(release_at(tmp_path, thief, 2, "forged")), SignatureRefused)

    assert "2 signatures required, 1 found" in error.detail
    assert "not signed by targets-3" in error.detail


def test_following_is_possible_before_the_first_import_and_again(keyring: Keyring, site: Site, tmp_path: Path) -> None:
    renew(keyring, "targets-1", now=NOW)

    site.trust.follow(keyring.roots(), now=NOW)
    before = snapshot(site.folder)
    again = site.trust.follow(keyring.roots(), now=NOW)

    assert (again.before, again.after) == (2, 2)
    assert snapshot(site.folder) == before
    assert site.policy is None
    assert site.import_(release_at(tmp_path, keyring, 1)).is_dir()


def test_several_roots_are_followed_at_once_in_any_order(keyring: Keyring, site: Site) -> None:
    for name in ("targets-1", "root-1", "root-pq"):
        renew(keyring, name, now=NOW)

    assert site.trust.follow(reversed(keyring.roots()), now=NOW).after == 4


def test_a_gap_is_refused(keyring: Keyring, site: Site) -> None:
    for _ in range(2):
        renew(keyring, "targets-1", now=NOW)

    error = refused(site, lambda: site.trust.follow([keyring.roots()[2]], now=NOW), SignatureRefused)

    assert "2.root.json is missing" in error.detail


def test_a_gap_in_a_bundle_is_refused_as_a_gap(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    medium = release_at(tmp_path, keyring, 1)
    for _ in range(2):
        renew(keyring, "targets-1", now=NOW)
    shutil.copy(keyring.directory / "3.root.json", medium / METADATA)

    error = refused(site, lambda: site.import_(medium), SignatureRefused)

    assert "2.root.json is missing" in error.detail


@pytest.fixture
def fork(tmp_path: Path, keyring: Keyring) -> Keyring:
    """The same publisher's keys, gone another way at version 2."""
    shutil.copytree(keyring.directory, tmp_path / "fork")
    other = Keyring.load(tmp_path / "fork")
    renew(other, "targets-1", now=NOW)
    renew(keyring, "targets-2", now=NOW)
    return other


def test_a_fork_is_refused(keyring: Keyring, fork: Keyring, site: Site) -> None:
    site.trust.follow(keyring.roots(), now=NOW)

    error = refused(site, lambda: site.trust.follow(fork.roots(), now=NOW), SignatureRefused)

    assert "root version 2 says something else" in error.detail


def test_a_fork_in_a_bundle_is_refused_also_where_its_signatures_would_do(
    tmp_path: Path, keyring: Keyring, fork: Keyring, site: Site
) -> None:
    site.trust.follow(keyring.roots(), now=NOW)
    medium = release_at(tmp_path, keyring, 1)
    shutil.copy(fork.directory / "2.root.json", medium / METADATA / "2.root.json")

    error = refused(site, lambda: site.import_(medium), SignatureRefused)

    assert "says something else than root version 2" in error.detail


def test_a_root_that_was_signed_by_one_more_key_later_is_no_fork(keyring: Keyring, site: Site, tmp_path: Path) -> None:
    renew(keyring, "targets-1", now=NOW)
    more = trust_bytes_without_one_signature(keyring)
    site.trust.follow([more], now=NOW)

    assert site.import_(release_at(tmp_path, keyring, 1)).is_dir()


def trust_bytes_without_one_signature(keyring: Keyring) -> bytes:
    metadata = Metadata[Root].from_bytes(keyring.roots()[1])
    metadata.signatures.pop(next(key_id for key_id, key in metadata.signed.keys.items() if _is_root_2(key)))
    return metadata.to_bytes()


def _is_root_2(key: object) -> bool:
    return getattr(key, "unrecognized_fields", {}).get("x-leeward-name") == "root-2"


def test_an_expired_root_is_not_followed(keyring: Keyring, site: Site) -> None:
    renew(keyring, "targets-1", now=NOW - timedelta(days=4000))

    error = refused(site, lambda: site.trust.follow(keyring.roots(), now=NOW), ReleaseExpired)

    assert "judged by 2026-11-24" in error.detail


def test_without_an_anchor_nothing_is_followed(keyring: Keyring, tmp_path: Path) -> None:
    with pytest.raises(TrustRootMissing):
        TrustStore(tmp_path / "empty").follow(keyring.roots(), now=NOW)

    assert not (tmp_path / "empty").exists()


def test_an_import_that_began_before_a_revocation_does_not_undo_it(
    tmp_path: Path, keyring: Keyring, site: Site
) -> None:
    medium = open_bundle(release_at(tmp_path, keyring, 1))
    verified = site.trust.check(medium, now=NOW)
    import_release(medium, verified, **site.places())
    renew(keyring, "targets-1", now=NOW)
    site.trust.follow(keyring.roots(), now=NOW)

    error = refused(site, verified.commit, RollbackRefused)

    assert "has changed since the check" in error.detail
    assert site.policy is None
    assert site.trust.check(medium, now=NOW).root_version == 2


def test_a_bundle_that_was_signed_before_a_replacement_passes_if_two_of_its_signers_are_left(
    tmp_path: Path, keyring: Keyring, site: Site
) -> None:
    medium = release_at(tmp_path, keyring, 1)  # signed by all three
    renew(keyring, "targets-1", now=NOW)
    site.trust.follow(keyring.roots(), now=NOW)

    assert site.import_(medium).is_dir()


def test_the_command_line_follows_a_medium_and_a_folder(keyring: Keyring, site: Site, tmp_path: Path) -> None:
    renew(keyring, "targets-1", now=NOW)
    medium = release_at(tmp_path, keyring, 1)
    (tmp_path / "alone").mkdir()
    shutil.copy(keyring.directory / "2.root.json", tmp_path / "alone")
    state = str(site.folder / "trust")

    first = CliRunner().invoke(bundle, ["anchor", "--state", state, "--update", str(tmp_path / "alone")])
    second = CliRunner().invoke(bundle, ["anchor", "--state", state, "--update", str(medium)])
    nothing = CliRunner().invoke(bundle, ["anchor", "--state", state, "--update", str(tmp_path)])
    both = CliRunner().invoke(bundle, ["anchor", "--state", state, "--update", str(medium), "--fingerprint", "00"])

    assert "Root version 2 counts now; before it was 1." in first.output
    assert "as before" in second.output
    assert "holds no N.root.json" in nothing.output
    assert [result.exit_code for result in (first, second, nothing, both)] == [0, 0, 2, 2]


class Killed(BaseException):
    """The process ends here."""


def test_a_kill_at_any_instant_of_the_commit_leaves_the_old_or_the_new_state(
    tmp_path: Path, keyring: Keyring, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.import_(release_at(tmp_path, keyring, 1))
    medium = open_bundle(release_at(tmp_path, keyring, 2))
    pristine = tmp_path / "pristine"
    shutil.copytree(site.folder, pristine, symlinks=True)
    outcomes = []
    verified = site.trust.check(medium, now=NOW)

    for instant in range(200):
        shutil.rmtree(site.folder)
        shutil.copytree(pristine, site.folder, symlinks=True)
        with monkeypatch.context() as patch:
            died = die_at(patch, instant)
            with contextlib.suppress(Killed):
                verified.commit()
        assert site.policy is not None
        outcomes.append(site.policy.epoch)
        if instant % 8 == 0 or not died():  # the import goes on after the restart
            site.trust.check(medium, now=NOW).commit()
            assert site.policy.epoch == 2
        if not died():
            break
    else:
        pytest.fail("the commit has more than 200 steps")

    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {1, 2}
    assert len(outcomes) > 15


def die_at(patch: pytest.MonkeyPatch, instant: int) -> Callable[[], bool]:
    """Let the process end before the system call number `instant` (from 0) that changes the disk."""
    count = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def dying(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count > instant:
                raise Killed
            return call(*args, **kwargs)

        return dying

    patch.setattr(os, "fsync", counted(os.fsync))
    for name in ("replace", "symlink_to", "unlink", "mkdir"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    patch.setattr(trust_state.shutil, "rmtree", counted(shutil.rmtree))
    return lambda: count > instant


def test_a_release_that_failed_on_the_way_is_not_remembered(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    site.import_(release_at(tmp_path, keyring, 1))
    medium = release_at(tmp_path, keyring, 9)
    blob = max((medium / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")

    with pytest.raises(LeewardError):
        site.import_(medium)

    assert site.policy is not None
    assert site.policy.epoch == 1
    assert site.import_(release_at(tmp_path, keyring, 2)).is_dir()


def test_a_stolen_build_host_can_block_imports_but_not_release_and_a_new_root_repairs_it(
    tmp_path: Path, keyring: Keyring, site: Site
) -> None:
    medium = release_at(tmp_path, keyring, 1)
    fast_forward(medium, keyring, version=2**31 - 1)
    site.import_(medium)  # the release is honest, its dates are the thief's
    refused(site, lambda: site.import_(release_at(tmp_path, keyring, 2)), RollbackRefused)

    renew(keyring, "snapshot", "timestamp", now=NOW)
    site.trust.follow(keyring.roots(), now=NOW)

    assert site.import_(release_at(tmp_path, keyring, 3)).is_dir()
    assert site.policy is not None
    assert site.policy.epoch == 3


def fast_forward(medium: Path, keyring: Keyring, *, version: int) -> None:
    """Put the same targets under a snapshot and a timestamp of a far version."""
    targets = (medium / METADATA / "1.targets.json").read_bytes()
    snapshot = Snapshot(
        version=version,
        expires=NOW + timedelta(days=9),
        meta={"targets.json": MetaFile.from_data(1, targets, ["sha256"])},
    )
    (medium / METADATA / "1.snapshot.json").unlink()
    content = signed_bytes(snapshot, keyring.signers("snapshot"))
    (medium / METADATA / f"{version}.snapshot.json").write_bytes(content)
    timestamp = Timestamp(
        version=version,
        expires=NOW + timedelta(days=9),
        snapshot_meta=MetaFile.from_data(version, content, ["sha256"]),
    )
    (medium / METADATA / "timestamp.json").write_bytes(signed_bytes(timestamp, keyring.signers("timestamp")))


def test_release_signers_may_be_post_quantum(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    added = {("targets", "targets-1-pq"): None, ("targets", "targets-2-pq"): None}
    begin(keyring, Change(removed=frozenset({"targets-1", "targets-2", "targets-3"}), added=added), now=NOW)
    sign(keyring, present_signers(keyring))
    root = keyring.root

    assert site.import_(release_at(tmp_path, keyring, 1)).is_dir()
    assert {root.keys[key_id].scheme for key_id in root.roles["targets"].keyids} == {"ml-dsa-87/1"}


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_root_to_follow_is_a_regular_file_and_nothing_else_is_opened(
    keyring: Keyring, site: Site, tmp_path: Path, kind: str
) -> None:
    renew(keyring, "targets-1", now=NOW)
    offered = tmp_path / "stick"
    offered.mkdir()
    if kind == "link":
        (offered / "2.root.json").symlink_to(keyring.directory / "2.root.json")
    else:
        os.mkfifo(offered / "2.root.json")

    result = CliRunner().invoke(bundle, ["anchor", "--state", str(site.folder / "trust"), "--update", str(offered)])

    assert "2.root.json" in result.output
    assert result.exit_code == 4
    assert not (site.folder / "trust/current").exists()
