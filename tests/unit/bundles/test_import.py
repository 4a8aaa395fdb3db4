from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bundles import blobs, pair, transfer, verify
from bundles.errors import (
    Canceled,
    ContentMismatch,
    LeewardError,
    MediaMissing,
    PairMismatch,
    ReleaseInvalid,
    StoreFull,
)
from bundles.keys import Keyring
from bundles.layout import open_bundle, peek
from bundles.release import LEAF_BYTES, FileEntry
from bundles.verify import import_release, verify_content
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle
from tests.unit.bundles.site import Site, blob_of, canonical, flip_bit, replace_by_fifo, replace_by_link, resign

SHARD = "weights/target/consolidated.safetensors"


def refused(site: Site, medium: Path, error: type[LeewardError]) -> LeewardError:
    """Import, see the refusal, and see that nothing changed."""
    slots, policy = site.slots(), site.policy

    with pytest.raises(error) as caught:
        site.import_(medium)

    assert site.slots() == slots
    assert site.policy == policy
    assert caught.value.detail
    assert caught.value.remedy
    return caught.value


def test_an_import_fills_a_slot_with_exactly_the_signed_files(site: Site, medium: Path) -> None:
    slot = site.import_(medium)

    expected = tree()
    found = {
        path.relative_to(slot).as_posix(): path.read_bytes()
        for path in slot.rglob("*")
        if path.is_file() and path.name != "release.json"
    }
    assert found == expected
    assert peek(open_bundle(medium)).slot == slot.name
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in slot.rglob("*") if path.is_file())
    assert site.policy is not None
    assert site.policy.epoch == 1
    assert list((site.folder / "staging").iterdir()) == []


def test_importing_twice_changes_nothing(site: Site, medium: Path) -> None:
    slot = site.import_(medium)
    before = {path: path.stat().st_ino for path in slot.rglob("*")}

    site.import_(medium)

    assert {path: path.stat().st_ino for path in slot.rglob("*")} == before


def test_importing_again_mends_a_file_that_was_damaged_on_the_node(site: Site, medium: Path) -> None:
    slot = site.import_(medium)
    damaged = slot / SHARD
    damaged.chmod(0o644)
    flip_bit(damaged, 900)

    site.import_(medium)

    assert damaged.read_bytes() == tree()[SHARD]


def test_a_newer_release_shares_its_unchanged_files_with_the_older(
    tmp_path: Path, site: Site, medium: Path, keyring: Keyring
) -> None:
    first = site.import_(medium)
    files = tree() | {"playbooks/site.yml": b"- hosts: nodes\n"}
    second_medium = write_bundle(tmp_path / "second", keyring, release=blank_release(epoch=2), files=files).folder

    second = site.import_(second_medium)

    assert first.name != second.name
    assert (first / SHARD).samefile(second / SHARD)
    assert (first / "playbooks/site.yml").read_bytes() != (second / "playbooks/site.yml").read_bytes()


def test_import_refuses_one_flipped_bit_in_a_shard_and_names_file_and_leaf(site: Site, medium: Path) -> None:
    flip_bit(blob_of(medium, SHARD), 1234)

    error = refused(site, medium, ContentMismatch)

    assert f"{SHARD}: leaf 0 of 1" in error.detail
    assert not any(path.name == blob_of(medium, SHARD).stem for path in site.stored())


def test_import_names_the_one_wrong_leaf_of_a_large_file(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    medium = write_bundle(tmp_path / "large", keyring, files=tree(shard_bytes=3 * LEAF_BYTES)).folder
    flip_bit(blob_of(medium, SHARD), 2 * LEAF_BYTES + 5)

    error = refused(site, medium, ContentMismatch)

    assert f"{SHARD}: leaf 2 of 4" in error.detail


def test_import_refuses_a_missing_file(site: Site, medium: Path) -> None:
    blob_of(medium, SHARD).unlink()

    error = refused(site, medium, ContentMismatch)

    assert f"missing: {SHARD}" in error.detail
    assert site.stored() == []


def test_import_refuses_a_truncated_file(site: Site, medium: Path) -> None:
    os.truncate(blob_of(medium, SHARD), 1000)

    error = refused(site, medium, ContentMismatch)

    assert SHARD in error.detail
    assert site.stored() == []


@pytest.mark.parametrize("name", ["blobs/extra.p000", "metadata/2.targets.json", "targets/readme.txt", "blobs/.hidden"])
def test_import_refuses_a_file_that_nobody_signed(site: Site, medium: Path, name: str) -> None:
    (medium / name).write_bytes(b"hello")

    error = refused(site, medium, ContentMismatch)

    assert name in error.detail
    assert site.stored() == []


@pytest.mark.parametrize("spoil", [replace_by_link, replace_by_fifo])
@pytest.mark.parametrize("which", ["blob", "timestamp", "snapshot", "manifest"])
def test_import_refuses_what_is_not_a_regular_file(
    site: Site, medium: Path, which: str, spoil: Callable[[Path], None]
) -> None:
    spoil(
        {
            "blob": blob_of(medium, SHARD),
            "timestamp": medium / "metadata/timestamp.json",
            "snapshot": medium / "metadata/1.snapshot.json",
            "manifest": next((medium / "targets").iterdir()),
        }[which]
    )

    error = refused(site, medium, ContentMismatch)

    assert "a symbolic link" in error.detail or "a FIFO" in error.detail
    assert site.stored() == []


def test_import_refuses_a_folder_that_is_a_link(tmp_path: Path, site: Site, medium: Path) -> None:
    (medium / "blobs").rename(tmp_path / "blobs")
    (medium / "blobs").symlink_to(tmp_path / "blobs")

    refused(site, medium, MediaMissing)


def test_import_refuses_a_tampered_manifest(site: Site, medium: Path) -> None:
    (manifest,) = (medium / "targets").iterdir()
    flip_bit(manifest, 200)

    refused(site, medium, ContentMismatch)

    assert site.stored() == []


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "playbooks/../x",
        "playbooks/con.yml",
        "playbooks/a.",
        "playbooks/\u200bx",
        "playbooks/a\\b",
        "C:/x",
        "weights/target/pytorch_model.bin",
        "weights/draft/load.py",
        "playbooks/Site.yml",
        "playbooks/site.yml/x",
    ],
)
def test_import_refuses_a_path_outside_the_grammar_even_when_signed(
    site: Site, medium: Path, keyring: Keyring, path: str
) -> None:
    release = peek(open_bundle(medium))
    renamed = replace(release.file("playbooks/roles/empty/tasks/main.yml"), path=path)
    files = sorted((*(f for f in release.files if "empty" not in f.path), renamed), key=lambda f: f.path)
    resign(medium, canonical(replace(release, files=tuple(files))), keyring)

    refused(site, medium, ReleaseInvalid)

    assert site.stored() == []


def test_import_refuses_a_manifest_with_a_duplicate_key_even_when_signed(
    site: Site, medium: Path, keyring: Keyring
) -> None:
    content = canonical(peek(open_bundle(medium))).replace(b'"epoch":1', b'"epoch":1,"epoch":1', 1)
    resign(medium, content, keyring)

    error = refused(site, medium, ReleaseInvalid)

    assert "twice" in error.detail


def test_import_refuses_a_draft_head_swapped_by_a_publisher_who_kept_the_lock(
    site: Site, medium: Path, keyring: Keyring
) -> None:
    release = peek(open_bundle(medium))
    swapped = replace(release.file("weights/draft/consolidated.safetensors"), sha256="0" * 64, leaves=("0" * 64,))
    files = tuple(swapped if entry.path == swapped.path else entry for entry in release.files)
    resign(medium, canonical(replace(release, files=files)), keyring)

    error = refused(site, medium, PairMismatch)

    assert "draft head" in error.detail


def test_import_refuses_a_draft_head_for_another_target_although_the_lock_names_it(
    site: Site, tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as careless:  # a publisher whose build does not compare
        careless.setattr(pair, "_SHARED", ("dim",))
        careless.setattr(pair, "VOCABULARY", "dim")
        medium = write_bundle(tmp_path / "wrong", keyring, files=tree(vocab_size=999)).folder

    error = refused(site, medium, PairMismatch)

    assert "vocab_size: the target has 256, the draft head 999" in error.detail
    assert len(site.stored()) <= 2  # the two params.json; no weights were copied


def test_import_refuses_an_unsound_safetensors_file_even_when_signed(
    site: Site, tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as careless:
        careless.setattr("bundles.safetensors.read_header", lambda *_: ())
        medium = write_bundle(tmp_path / "bad", keyring, files=tree() | {SHARD: b"\xff" * 100}).folder

    error = refused(site, medium, ReleaseInvalid)

    assert SHARD in error.detail


def test_import_says_both_numbers_when_the_disk_is_too_small(
    site: Site, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstatvfs
    monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result((4096, 4096, 10, 5, 5, *tuple(real(fd))[5:10])))

    error = refused(site, medium, StoreFull)

    assert "20,480 free" in error.detail
    assert site.stored() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_import_ends_cleanly_when_the_disk_fills_up_in_the_middle(
    tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = write_bundle(tmp_path / "large", keyring, files=tree(shard_bytes=3 * LEAF_BYTES)).folder
    folder = tmp_path / "small-disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        site = Site.trusting(folder / "site", keyring)
        with monkeypatch.context() as unforeseen:
            unforeseen.setattr(verify, "check_room", lambda *_, **__: None)
            error = refused(site, medium, StoreFull)

        assert "No space left" in error.detail
        subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
        assert (site.import_(medium) / SHARD).read_bytes() == tree(shard_bytes=3 * LEAF_BYTES)[SHARD]
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_canceled_import_can_be_finished_later(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    medium = write_bundle(tmp_path / "large", keyring, files=tree(shard_bytes=3 * LEAF_BYTES)).folder
    bundle = open_bundle(medium)
    verified = site.trust.check(bundle, now=NOW)
    done: list[int] = []

    with pytest.raises(Canceled):
        import_release(
            bundle,
            verified,
            **site.places(),
            progress=lambda _path, count, _total: done.append(count),
            is_canceled=lambda: bool(done) and done[-1] > LEAF_BYTES,
        )

    assert site.slots() == []
    assert site.policy is None
    assert (site.import_(medium) / SHARD).stat().st_size > 3 * LEAF_BYTES


_KILLED_IMPORT = """
import os, signal, sys
from pathlib import Path
from tests.unit.bundles.site import Site, open_bundle, import_release, NOW
site, medium, after = Site(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
calls = 0
def progress(path, done, total):
    global calls
    calls += 1
    if calls == after:
        os.kill(os.getpid(), signal.SIGKILL)
bundle = open_bundle(medium)
verified = site.trust.check(bundle, now=NOW)
import_release(bundle, verified, **site.places(), progress=progress)
"""


@pytest.mark.parametrize("after", [1, 4, 8])
def test_an_import_killed_in_the_middle_is_as_if_never_begun_and_can_be_finished(
    tmp_path: Path, site: Site, keyring: Keyring, after: int
) -> None:
    files = tree(shard_bytes=3 * LEAF_BYTES)
    medium = write_bundle(tmp_path / "large", keyring, files=files).folder

    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_IMPORT, str(site.folder), str(medium), str(after)], check=False
    )

    assert killed.returncode == -signal.SIGKILL
    assert site.slots() == []
    assert site.policy is None

    slot = site.import_(medium)

    assert (slot / SHARD).read_bytes() == files[SHARD]
    assert site.slots() == [slot.name]
    assert list((site.folder / "staging").iterdir()) == []


def test_what_a_killed_import_left_is_not_trusted_when_it_was_changed_meanwhile(
    tmp_path: Path, site: Site, keyring: Keyring
) -> None:
    files = tree(shard_bytes=3 * LEAF_BYTES)
    medium = write_bundle(tmp_path / "large", keyring, files=files).folder
    entry = peek(open_bundle(medium)).file(SHARD)
    staging = site.folder / "staging"
    staging.mkdir()
    (staging / f"{entry.sha256}.partial").write_bytes(files[SHARD][: LEAF_BYTES + 77] + b"evil" * 9_000_000)

    slot = site.import_(medium)

    assert (slot / SHARD).read_bytes() == files[SHARD]


def test_resuming_reads_no_leaf_again_that_is_staged(
    tmp_path: Path, site: Site, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tree(shard_bytes=3 * LEAF_BYTES)
    medium = write_bundle(tmp_path / "large", keyring, files=files).folder
    entry = peek(open_bundle(medium)).file(SHARD)
    (site.folder / "staging").mkdir()
    (site.folder / "staging" / f"{entry.sha256}.partial").write_bytes(files[SHARD][: 2 * LEAF_BYTES])
    read: list[int] = []
    real = blobs.MediumFile.fill

    def noted(self: blobs.MediumFile, leaf: int, view: memoryview) -> None:
        if self.entry.path == SHARD:
            read.append(leaf)
        real(self, leaf, view)

    monkeypatch.setattr(blobs.MediumFile, "fill", noted)

    site.import_(medium)

    assert read == [2, 3]


def test_import_refuses_another_release_for_a_slot_that_exists(
    tmp_path: Path, site: Site, medium: Path, keyring: Keyring
) -> None:
    slot = site.import_(medium)
    other = write_bundle(tmp_path / "other", keyring, files=tree(seed=9)).folder
    fresh = Site.trusting(tmp_path / "fresh", keyring)  # no memory of the first import
    (fresh.folder / "slots").mkdir()
    slot.rename(fresh.folder / "slots" / slot.name)

    with pytest.raises(ReleaseInvalid):
        fresh.import_(other)

    assert (fresh.folder / "slots" / slot.name / SHARD).read_bytes() == tree()[SHARD]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"{}")])
def test_importing_again_mends_a_manifest_that_was_damaged_on_the_node(
    site: Site, medium: Path, spoil: Callable[[Path], None]
) -> None:
    slot = site.import_(medium)
    before = (slot / "release.json").read_bytes()
    (slot / "release.json").chmod(0o644)
    spoil(slot / "release.json")

    assert site.import_(medium) == slot

    assert (slot / "release.json").read_bytes() == before
    assert not list(slot.glob(".*"))


def test_verify_content_lists_everything_that_is_wrong(tmp_path: Path, keyring: Keyring) -> None:
    medium = write_bundle(tmp_path / "large", keyring, files=tree(shard_bytes=3 * LEAF_BYTES)).folder
    release = peek(open_bundle(medium))
    flip_bit(blob_of(medium, SHARD), 5)
    flip_bit(blob_of(medium, SHARD), 2 * LEAF_BYTES + 5)
    blob_of(medium, "playbooks/site.yml").unlink()
    (medium / "blobs" / "stray").write_bytes(b"")

    found = verify_content(open_bundle(medium), release)

    assert found.missing == ("playbooks/site.yml",)
    assert found.extra == ("blobs/stray",)
    assert [(one.path, one.leaves) for one in found.corrupt] == [(SHARD, (0, 2))]
    assert found


def test_verify_content_finds_a_part_with_bytes_behind_its_end(medium: Path) -> None:
    with blob_of(medium, SHARD).open("ab") as stream:
        stream.write(b"x")

    found = verify_content(open_bundle(medium), peek(open_bundle(medium)))

    assert [(one.path, one.leaves) for one in found.corrupt] == [(SHARD, (0,))]


def test_verify_content_finds_nothing_wrong_with_a_good_medium(medium: Path) -> None:
    bundle = open_bundle(medium)

    assert not verify_content(bundle, peek(bundle))


def test_the_first_error_stops_the_other_files() -> None:
    meter = transfer.Meter(total=0, progress=transfer.silent, is_canceled=transfer.never)

    def work(item: int, _pool: object) -> None:
        if item == 0:
            raise ContentMismatch(detail="first", remedy="none")
        meter.check()

    with pytest.raises(ContentMismatch):
        transfer.each(range(100), work, meter)


@dataclass
class TwinWork:
    """Two leaves that must be under way together."""

    entry: FileEntry
    order: list[str]
    together: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=10))

    def begin(self, _opened: ExitStack) -> None:
        self.order.append(f"begin {self.entry.path}")

    def take(self, _leaf: int, _view: memoryview) -> None:
        self.together.wait()

    def finish(self) -> None:
        self.order.append(f"finish {self.entry.path}")


def test_two_threads_help_each_other_with_one_file_instead_of_reading_two() -> None:
    order: list[str] = []
    leaves = ("0" * 64, "1" * 64)
    files = [FileEntry(path=path, size_bytes=LEAF_BYTES + 1, sha256="2" * 64, leaves=leaves) for path in "ab"]
    meter = transfer.Meter(total=0, progress=transfer.silent, is_canceled=transfer.never)

    transfer.share([TwinWork(entry, order) for entry in files], meter, threads=2)

    assert sorted(order) == ["begin a", "begin b", "finish a", "finish b"]
    assert order[0] == "begin a"
