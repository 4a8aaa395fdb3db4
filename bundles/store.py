"""The content-addressed store of a node, and the slots of hard links into it.

    store/sha256/ab/<digest>       0444; a file is here only after its bytes were verified and durable
    staging/<digest>.partial       on its way
    slots/<slot>/...               hard links, `release.json` beside them
    slots/.<slot>.partial/         a slot being built

All names are made by this module; it removes nothing else.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bundles import pair, safetensors
from bundles.errors import ReleaseInvalid, StoreFull, StoreUnusable, TrustError
from bundles.release import LEAF_BYTES, FileEntry, Release, release_from_bytes
from bundles.transfer import folder_descriptor, fsync_folder, hash_in_pieces, is_written, read_into, write_from
from bundles.verity import BLOCK_BYTES, protect

MANIFEST = "release.json"
MARGIN_BYTES = 64 * 1024 * 1024
"""Room for folders, links and the file system's own needs."""

_VERITY_SHARE = 120
"""fs-verity's hash tree takes a 126th of a file (32 bytes for each 4,096, and its upper levels)."""
_STAGED = os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(slots=True)
class StagedFile:
    """A file on its way into the store; what an earlier try left is taken up as far as it matches.

    A large file gets its room at once, and its leaves go past the page cache where the file system
    allows that: it costs half the CPU, several leaves are written side by side, nothing is left for
    `adopt` to wait for, and a write that has begun ends even if its process is killed.
    """

    path: Path
    final: Path
    entry: FileEntry
    descriptor: int
    direct: int
    """A descriptor that writes past the page cache; -1 where there is none."""

    @property
    def is_direct(self) -> bool:
        """Whether leaves go past the page cache, and so may be written side by side."""
        return self.direct >= 0

    def has(self, leaf: int, view: memoryview) -> bool:
        """Whether an earlier try staged the right bytes."""
        is_there = is_written(self.descriptor, leaf * LEAF_BYTES, len(view))
        return is_there and holds_leaf(self.descriptor, self.entry, leaf, view)

    def write(self, leaf: int, view: memoryview) -> None:
        """Write a leaf; nobody opens it before it is verified. Raises StoreFull, StoreUnusable.

        What goes through the page cache, the disk begins to write at once, so that little is left for `adopt`.
        """
        begin = leaf * LEAF_BYTES
        with storing(self.path):
            done = self._write_directly(begin, view) if self.is_direct else 0
            write_from(self.descriptor, view[done:], begin + done)
            os.posix_fadvise(self.descriptor, begin, len(view), os.POSIX_FADV_DONTNEED)

    def _write_directly(self, begin: int, view: memoryview) -> int:
        """Write whole blocks past the page cache; gives how many bytes, none where that is not possible."""
        whole = len(view) - len(view) % BLOCK_BYTES
        try:
            write_from(self.direct, view[:whole], begin)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system or a disk with other rules
                raise
            return 0
        return whole

    def read(self, offset: int, length: int) -> bytes:
        """Return staged bytes."""
        content = bytearray(length)
        return bytes(content[: read_into(self.descriptor, memoryview(content), offset)])

    def adopt(self) -> None:
        """Make the file durable and move it under its digest. Raises StoreFull, StoreUnusable."""
        with storing(self.final):
            os.ftruncate(self.descriptor, self.entry.size_bytes)
            os.fchmod(self.descriptor, 0o444)
            os.fsync(self.descriptor)
            self.final.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            self.path.replace(self.final)
            fsync_folder(self.final.parent)
            self.close()
        protect(self.final)  # after its writers are closed; where that is not possible, the scrub watches alone

    def close(self) -> None:
        """Close what is open; again is no harm."""
        descriptors = [one for one in (self.descriptor, self.direct) if one >= 0]
        self.descriptor = self.direct = -1
        for descriptor in descriptors:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Store:
    """Files by digest, below `folder` (`.../store/sha256`)."""

    folder: Path

    def path(self, sha256: str) -> Path:
        """Return where the file with this digest is, or would be."""
        return self.folder / sha256[:2] / sha256

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[int | None]:
        """Open a file of the store; gives None where it is not there, or not of the right size."""
        try:
            descriptor = os.open(self.path(entry.sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            yield None
            return
        try:
            yield descriptor if os.fstat(descriptor).st_size == entry.size_bytes else None
        finally:
            os.close(descriptor)

    @contextmanager
    def staged(self, staging: Path, entry: FileEntry) -> Iterator[StagedFile]:
        """Open the staging file of `entry`, with room for all of it. Raises StoreFull, StoreUnusable."""
        path = staging / f"{entry.sha256}.partial"
        with storing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _STAGED, 0o600)
        staged = StagedFile(path, self.path(entry.sha256), entry, descriptor, -1)
        try:
            if entry.size_bytes >= LEAF_BYTES:
                with storing(path):
                    os.posix_fallocate(descriptor, 0, entry.size_bytes)
                with suppress(OSError):  # a file system without it
                    staged.direct = os.open(path, os.O_WRONLY | os.O_DIRECT | _STAGED)
            yield staged
        finally:
            staged.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotBuilder:
    """Makes the slot of a release whose files are all in the store."""

    slots: Path
    store: Store
    staging: Path

    def prepare(self, release: Release, release_json: bytes) -> None:
        """Make the folders and look whether the slot can be made.

        Raises ReleaseInvalid where the slot holds another release, StoreUnusable.
        """
        with storing(self.slots):
            for folder in (self.slots, self.store.folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            self.staging.mkdir(parents=True, exist_ok=True, mode=0o700)
            devices = {folder.stat().st_dev for folder in (self.slots, self.store.folder, self.staging)}
        if len(devices) > 1:
            raise StoreUnusable(
                detail=f"{self.store.folder}, {self.slots} and {self.staging} are on different file systems",
                remedy="Put all of /var/lib/leeward on one file system; slots are hard links into the store.",
            )
        found = _manifest(self.slots / release.slot)
        if found is not None and found != release_json:
            raise ReleaseInvalid(
                detail=f"slot {release.slot} holds another release of the same version and epoch",
                remedy="The publisher must give the new release a higher epoch.",
            )

    def check_pair(self, release: Release) -> None:
        """Check the two `params.json` in the store against the signed lock. Raises PairMismatch, ReleaseInvalid."""
        if release.pair is None:
            return
        found = {}
        for path in (pair.TARGET_PARAMS, pair.DRAFT_PARAMS):
            entry = next((entry for entry in release.files if entry.path == path), None)
            if entry is None or entry.size_bytes > pair.MAX_PARAMS_BYTES:
                raise ReleaseInvalid(
                    detail=f"{path} is missing or too large",
                    remedy="The publisher must build the release again, in Mistral's native layout.",
                )
            found[path] = self.store.path(entry.sha256).read_bytes()
        pair.check(
            release.files,
            release.pair,
            target_params=found[pair.TARGET_PARAMS],
            draft_params=found[pair.DRAFT_PARAMS],
        )

    def check_weights(self, release: Release) -> None:
        """Check the headers of the weights in the store against the lock. Raises PairMismatch, ReleaseInvalid."""
        if release.pair is not None:
            with storing(self.store.folder):
                pair.check_weights(release.files, release.pair, header=self._header)

    def _header(self, entry: FileEntry) -> tuple[safetensors.TensorEntry, ...]:
        with self.store.path(entry.sha256).open("rb") as stream:

            def read(offset: int, length: int) -> bytes:
                stream.seek(offset)
                return stream.read(length)

            return safetensors.read_header(entry.path, entry.size_bytes, read)

    def build(self, release: Release, release_json: bytes) -> Path:
        """Make the slot appear, or mend the one that is there; returns its folder. Raises StoreFull, StoreUnusable."""
        slot = self.slots / release.slot
        with storing(slot):
            if slot.exists():
                self._mend(slot, release, release_json)
                return slot
            partial = self.slots / f".{release.slot}.partial"
            if partial.exists():
                shutil.rmtree(partial)
            try:
                self._fill(partial, release, release_json)
                partial.rename(slot)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            fsync_folder(self.slots)
        return slot

    def _fill(self, partial: Path, release: Release, release_json: bytes) -> None:
        partial.mkdir(mode=0o755)
        for entry in release.files:
            link = partial / entry.path
            link.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            os.link(self.store.path(entry.sha256), link)
        _write_manifest(partial / MANIFEST, release_json)
        for folder, _, _ in os.walk(partial):
            fsync_folder(Path(folder))

    def _mend(self, slot: Path, release: Release, release_json: bytes) -> None:
        """Replace what is not the store's verified file, and a damaged manifest, each by one rename."""
        if _manifest(slot) != release_json:
            fresh = slot / f".{MANIFEST}.partial"
            fresh.unlink(missing_ok=True)
            _write_manifest(fresh, release_json)
            fresh.replace(slot / MANIFEST)
            fsync_folder(slot)
        for entry in release.files:
            link, kept = slot / entry.path, self.store.path(entry.sha256)
            if link.is_file() and not link.is_symlink() and link.samefile(kept):
                continue
            link.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            fresh = link.with_name(f".{link.name}.partial")
            fresh.unlink(missing_ok=True)
            os.link(kept, fresh)
            fresh.replace(link)
            fsync_folder(link.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What an import needs more at its peak, and what is free, in bytes."""

    needed_bytes: int
    free_bytes: int


def find_room(files: Iterable[FileEntry], *, store: Store, staging: Path) -> Room:
    """Compute what importing `files` needs; there is no second copy, as a file is staged where it stays.

    A kept file that turns out to be damaged needs its size more until it is replaced; that is known
    when it was read. Raises StoreUnusable.
    """
    needed = MARGIN_BYTES
    for entry in {entry.sha256: entry for entry in files}.values():
        kept = _status(store.path(entry.sha256))
        if kept is None or kept.st_size != entry.size_bytes:
            staged = _status(staging / f"{entry.sha256}.partial")
            held = 0 if staged is None else min(staged.st_size, 512 * staged.st_blocks)
            needed += max(0, entry.size_bytes - held) + entry.size_bytes // _VERITY_SHARE
    folder = next(folder for folder in (store.folder, *store.folder.parents) if folder.is_dir())
    with storing(folder), folder_descriptor(folder) as descriptor:
        status = os.fstatvfs(descriptor)
    return Room(needed_bytes=needed, free_bytes=status.f_bavail * status.f_frsize)


def check_room(files: Iterable[FileEntry], *, store: Store, staging: Path) -> None:
    """Raise StoreFull with both numbers where the room that an import needs is not there."""
    room = find_room(files, store=store, staging=staging)
    if room.free_bytes < room.needed_bytes:
        raise StoreFull(
            detail=f"the import needs {room.needed_bytes:,} bytes more; {store.folder} has {room.free_bytes:,} free",
            remedy="Free space on that file system, or remove a slot that is no longer needed; then import again.",
        )


def holds_leaf(descriptor: int, entry: FileEntry, leaf: int, view: memoryview) -> bool:
    """Whether a file has a leaf's signed bytes, now. `view` has its size and is used for reading."""

    def fill(offset: int, piece: memoryview) -> None:
        if read_into(descriptor, piece, leaf * LEAF_BYTES + offset) != len(piece):
            raise OSError(errno.EIO, "it ends too soon")

    try:
        return hash_in_pieces(len(view), fill, view) == entry.leaves[leaf]
    except OSError:
        return False  # what cannot be read is not held, and is taken anew from the medium


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn a failing write into StoreFull or StoreUnusable."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                detail=f"{path}: {error.strerror}",
                remedy="Free space on that file system, then import again; what was verified is kept.",
            ) from error
        raise StoreUnusable(
            detail=f"{error.filename or path}: {error.strerror or error}",
            remedy="Check the file system (mount options, permissions, kernel log), then import again.",
        ) from error


def _write_manifest(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _manifest(slot: Path) -> bytes | None:
    """Return a slot's manifest; None where there is none, or one that is damaged."""
    try:
        content = (slot / MANIFEST).read_bytes()
        release_from_bytes(content)
    except (OSError, TrustError):
        return None
    return content


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None
