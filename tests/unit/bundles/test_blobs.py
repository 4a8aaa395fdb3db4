"""Import and verification over any source of leaves: repair, what is still to come, and what fails in between."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bundles import blobs as blobs_module
from bundles.blobs import Diff, MediumBlobs, PieceReader
from bundles.errors import ContentMismatch, MediaMissing, ReleaseInvalid, StoreUnusable, VolumesMissing
from bundles.keys import Keyring
from bundles.layout import open_bundle, peek
from bundles.release import LEAF_BYTES, BundleKind, FileEntry, Release
from bundles.store import MARGIN_BYTES, SlotBuilder, Store, find_room, holds_leaf
from bundles.trust import Verified
from bundles.verify import import_release, verify_content
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle
from tests.unit.bundles.site import Site, blob_of, flip_bit

SHARD = "weights/target/consolidated.safetensors"
FILES = tree(shard_bytes=3 * LEAF_BYTES)


@dataclass
class TwinBlobs:
    """A medium that gives wrong bytes, lacks leaves, or has other bytes to try; it notes what it was asked."""

    medium: MediumBlobs
    wrong: set[tuple[str, int]] = field(default_factory=set)
    absent: set[tuple[str, int]] = field(default_factory=set)
    spares: tuple[bool, ...] = ()
    """For each further copy: whether it is right."""
    filled: list[tuple[str, int]] = field(default_factory=list)
    repaired: list[tuple[str, int]] = field(default_factory=list)
    at_once: int = 0

    def compare(self, files: Iterable[FileEntry]) -> Diff:
        return self.medium.compare(files)

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[TwinReader]:
        with self.medium.opened(entry) as file:
            yield TwinReader(self, entry, file)


@dataclass
class TwinReader:
    blobs: TwinBlobs
    entry: FileEntry
    file: blobs_module.MediumFile
    busy: threading.Lock = field(default_factory=threading.Lock)
    tried: int = 0

    def fill(self, leaf: int, view: memoryview) -> None:
        assert self.busy.acquire(blocking=False), "two calls at once"
        self.blobs.filled.append((self.entry.path, leaf))
        try:
            if (self.entry.path, leaf) in self.blobs.absent:
                raise VolumesMissing(detail="volume 2 is to come", remedy="Put it in.")
            self.file.fill(leaf, view)
            if (self.entry.path, leaf) in self.blobs.wrong:
                view[0] ^= 1
        finally:
            self.busy.release()

    def repair(self, leaf: int, view: memoryview) -> bool:
        self.blobs.repaired.append((self.entry.path, leaf))
        if self.tried == len(self.blobs.spares):
            return False
        self.file.fill(leaf, view)
        if not self.blobs.spares[self.tried]:
            view[-1] ^= 1
        self.tried += 1
        return True


@pytest.fixture
def large(tmp_path: Path, keyring: Keyring) -> Path:
    return write_bundle(tmp_path / "large", keyring, files=FILES).folder


def checked(site: Site, medium: Path) -> Verified:
    return site.trust.check(open_bundle(medium), now=NOW)


def twin(medium: Path) -> TwinBlobs:
    return TwinBlobs(MediumBlobs(open_bundle(medium)))


def test_a_wrong_leaf_is_repaired_and_checked_again(site: Site, large: Path) -> None:
    source = twin(large)
    source.wrong, source.spares = {(SHARD, 1)}, (False, True)

    slot = import_release(source, checked(site, large), **site.places())

    assert (slot / SHARD).read_bytes() == FILES[SHARD]
    assert source.repaired == [(SHARD, 1)] * 2


def test_a_wrong_leaf_that_nothing_repairs_is_refused(site: Site, large: Path) -> None:
    source = twin(large)
    source.wrong, source.spares = {(SHARD, 1)}, (False, False)

    with pytest.raises(ContentMismatch, match="leaf 1 of 4"):
        import_release(source, checked(site, large), **site.places())

    assert site.slots() == []
    assert source.repaired == [(SHARD, 1)] * 3


def test_an_absent_leaf_can_be_restored_from_elsewhere(site: Site, large: Path) -> None:
    source = twin(large)
    source.absent, source.spares = {(SHARD, 3)}, (True,)

    assert (import_release(source, checked(site, large), **site.places()) / SHARD).read_bytes() == FILES[SHARD]


def test_what_is_here_is_taken_and_only_the_rest_is_read_when_it_comes(site: Site, large: Path) -> None:
    first = twin(large)
    first.absent = {(SHARD, 1), (SHARD, 3), ("playbooks/site.yml", 0)}

    with pytest.raises(VolumesMissing, match="volume 2"):
        import_release(first, checked(site, large), **site.places())

    assert site.slots() == []
    second = twin(large)
    slot = import_release(second, checked(site, large), **site.places())
    assert (slot / SHARD).read_bytes() == FILES[SHARD]
    assert sorted(second.filled) == sorted(first.absent)


def test_a_pair_whose_description_is_still_to_come_is_looked_at_when_it_is_here(site: Site, large: Path) -> None:
    first = twin(large)
    first.absent = {("weights/target/params.json", 0)}  # and the draft head's, which has the same bytes

    with pytest.raises(VolumesMissing):
        import_release(first, checked(site, large), **site.places())

    assert site.slots() == []
    assert (import_release(twin(large), checked(site, large), **site.places()) / SHARD).exists()


def test_verification_asks_for_repair_too_and_names_what_stays_wrong(large: Path) -> None:
    release = peek(open_bundle(large))
    source = twin(large)
    source.wrong = {(SHARD, 0), (SHARD, 2)}
    assert [(one.path, one.leaves) for one in verify_content(source, release).corrupt] == [(SHARD, (0, 2))]

    source.spares = (True, True)
    assert not verify_content(source, release)


def test_verification_of_a_set_that_lacks_a_volume_says_so(large: Path) -> None:
    source = twin(large)
    source.absent = {(SHARD, 2)}

    with pytest.raises(VolumesMissing):
        verify_content(source, peek(open_bundle(large)))


def test_a_plain_medium_gives_pieces_and_has_nothing_to_repair_from(medium: Path) -> None:
    bundle = open_bundle(medium)
    with MediumBlobs(bundle).opened(peek(bundle).file(SHARD)) as file:
        assert isinstance(file, PieceReader)
        assert not file.repair(0, memoryview(bytearray(1)))


def test_a_part_that_vanishes_after_it_was_counted_is_refused(site: Site, medium: Path) -> None:
    source = twin(medium)
    verified = checked(site, medium)
    found = source.compare(verified.release.files)
    blob_of(medium, SHARD).unlink()
    source.medium = _Counted(source.medium.bundle, found)

    with pytest.raises(ContentMismatch, match="is missing"):
        import_release(source, verified, **site.places())

    assert site.slots() == []


class _Counted(MediumBlobs):
    """A medium whose names were compared before."""

    __slots__ = ("found",)

    def __init__(self, bundle: blobs_module.Bundle, found: Diff) -> None:
        super().__init__(bundle)
        object.__setattr__(self, "found", found)

    def compare(self, files: Iterable[FileEntry]) -> Diff:
        del files
        return self.found  # type: ignore[attr-defined]  # set above, past the frozen base


def test_a_medium_that_gives_a_read_error_is_named_with_file_and_leaf(
    site: Site, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> int:
        raise OSError(5, "Input/output error")

    verified = checked(site, medium)
    monkeypatch.setattr(blobs_module, "read_into", failing)

    with pytest.raises(MediaMissing, match="leaf 0: the medium gave Input/output error"):
        import_release(open_bundle(medium), verified, **site.places())

    assert site.stored() == []


def test_every_damaged_part_of_a_file_is_told(medium: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(medium)
    entry = replace(peek(bundle).file(SHARD), size_bytes=300 * LEAF_BYTES, leaves=("0" * 64,) * 300)
    monkeypatch.setattr(blobs_module.Bundle, "size", lambda *_: 254 * LEAF_BYTES + 1)

    (found,) = MediumBlobs(bundle).compare([entry]).corrupt

    assert found.leaves == (254, *range(299, 300))


def test_an_evidence_bundle_is_imported_without_a_pair(tmp_path: Path, keyring: Keyring) -> None:
    release = replace(blank_release(), kind=BundleKind.EVIDENCE, licenses=(), engine=None, requirements=None)
    medium = write_bundle(tmp_path / "evidence", keyring, release=release, files={"records/a.json": b"{}"}).folder
    site = Site.trusting(tmp_path / "laptop", keyring)

    assert (site.import_(medium) / "records/a.json").read_bytes() == b"{}"


def test_a_leaf_that_fails_only_in_pieces_is_read_again_whole(medium: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = blobs_module.MediumFile.fill_piece

    def once_failing(self: blobs_module.MediumFile, leaf: int, offset: int, view: memoryview) -> None:
        asked.append(leaf)
        if len(asked) == 1:
            raise MediaMissing(detail="a loose contact", remedy="Try again.")
        real(self, leaf, offset, view)

    monkeypatch.setattr(blobs_module.MediumFile, "fill_piece", once_failing)
    bundle = open_bundle(medium)

    assert not verify_content(bundle, peek(bundle))


def test_a_part_that_ends_too_soon_names_its_leaf(medium: Path) -> None:
    entry = peek(open_bundle(medium)).file(SHARD)
    with MediumBlobs(open_bundle(medium)).opened(entry) as file:
        os.truncate(blob_of(medium, SHARD), 10)

        with pytest.raises(ContentMismatch, match="leaf 0 of 1"):
            file.fill(0, memoryview(bytearray(entry.size_bytes)))


# The store.


def test_without_any_file_in_the_way_room_is_found_before_there_is_a_store(tmp_path: Path) -> None:
    entry = FileEntry(path="a", size_bytes=1_200_000, sha256="0" * 64, leaves=("0" * 64,))
    store = Store(tmp_path / "not/yet/there")
    (tmp_path / f"{entry.sha256}.partial").write_bytes(b"x" * 400_000)

    fresh = find_room([entry, entry], store=store, staging=tmp_path / "none")
    resumed = find_room([entry], store=store, staging=tmp_path)

    assert fresh.needed_bytes == MARGIN_BYTES + 1_200_000 + 10_000
    assert fresh.needed_bytes - resumed.needed_bytes == 400_000
    assert fresh.free_bytes > 0
    assert not (tmp_path / "not").exists()


def builder_of(site: Site) -> SlotBuilder:
    places = site.places()
    return SlotBuilder(slots=places["slots"], store=Store(places["store"] / "sha256"), staging=places["staging"])


def test_folders_on_different_file_systems_are_refused(site: Site, medium: Path) -> None:
    if Path("/dev/shm").stat().st_dev == site.folder.stat().st_dev:  # noqa: S108  another file system is looked for
        pytest.skip("there is only one file system here")
    places = site.places() | {"staging": Path("/dev/shm") / site.folder.parent.name}  # noqa: S108  the same
    try:
        with pytest.raises(StoreUnusable, match="different file systems"):
            import_release(open_bundle(medium), checked(site, medium), **places)
    finally:
        places["staging"].rmdir()
    assert site.stored() == []


def test_a_release_without_the_pairs_description_is_refused(site: Site, medium: Path) -> None:
    site.import_(medium)
    lacking = _without(peek(open_bundle(medium)), "weights/draft/params.json")

    with pytest.raises(ReleaseInvalid, match=r"params\.json is missing"):
        builder_of(site).check_pair(lacking)


def _without(release: Release, path: str) -> Release:
    return replace(release, files=tuple(entry for entry in release.files if entry.path != path))


def test_a_slot_that_a_killed_import_left_half_built_is_built_anew(site: Site, medium: Path) -> None:
    half = site.folder / "slots/.26.11.0-e1.partial/weights"
    half.mkdir(parents=True)

    slot = site.import_(medium)

    assert site.slots() == [slot.name]


def test_a_slot_that_cannot_be_built_leaves_nothing(site: Site, medium: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(31, "Too many links")

    verified = checked(site, medium)
    monkeypatch.setattr(os, "link", refusing)

    with pytest.raises(StoreUnusable, match="Too many links"):
        import_release(open_bundle(medium), verified, **site.places())

    assert site.slots() == []


def test_a_file_that_ends_too_soon_or_cannot_be_read_does_not_hold_a_leaf(medium: Path) -> None:
    entry = peek(open_bundle(medium)).file(SHARD)
    view = memoryview(bytearray(entry.size_bytes))
    descriptor = os.open(blob_of(medium, SHARD), os.O_RDONLY)
    assert holds_leaf(descriptor, entry, 0, view)
    os.truncate(blob_of(medium, SHARD), 10)

    assert not holds_leaf(descriptor, entry, 0, view)

    os.close(descriptor)
    assert not holds_leaf(descriptor, entry, 0, view)


def test_a_damaged_file_of_the_store_is_replaced_and_its_bytes_are_counted_once(site: Site, large: Path) -> None:
    slot = site.import_(large)
    (slot / SHARD).chmod(0o644)
    flip_bit(slot / SHARD, 2 * LEAF_BYTES)
    told: list[tuple[int, int]] = []

    import_release(
        open_bundle(large),
        checked(site, large),
        **site.places(),
        progress=lambda _path, done, total: told.append((done, total)),
    )

    assert told[-1][0] == told[-1][1]
    assert (slot / SHARD).read_bytes() == FILES[SHARD]
