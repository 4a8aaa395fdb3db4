"""A medium, read safely. Nothing here decides whether to trust it.

    metadata/   TUF metadata            targets/<sha256>.release.json
    blobs/<sha256>.pNNN                 a file's parts, named by the whole file's digest
    volume/                             only where the medium is one of a set (bundles.media)
    receipts/                           custody receipts, where somebody put them (bundles.media.receipts)

Only regular files are opened, never through a symbolic link below the medium's own folder, never
blocking on a FIFO, and never more than a stated number of bytes is taken into memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundles.digest import pieces, sha256_hex
from bundles.errors import ContentMismatch, MediaMissing
from bundles.release import MAX_RELEASE_BYTES, PART_BYTES, FileEntry, Release, release_from_bytes

METADATA = "metadata"
TARGETS = "targets"
BLOBS = "blobs"
VOLUME = "volume"
RECEIPTS = "receipts"
FOLDERS = (METADATA, TARGETS, BLOBS)
"""What every medium has."""
RELEASE_SUFFIX = ".release.json"
MAX_ENTRIES = 250_000

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_REMEDY_COPY = "Do not import this medium. Ask the publisher for a good copy and check how it travelled."


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of one file: its name in `blobs/`, where in the file it begins, and its size."""

    name: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened medium. Make one with `open_bundle`."""

    path: Path

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the names in one of the folders, sorted, whatever they are.

        Raises MediaMissing where the folder cannot be read, ContentMismatch for absurdly many names.
        """
        with _opened(self.path, folder, None) as descriptor:
            try:
                names = os.listdir(descriptor)  # noqa: PTH208  pathlib lists no descriptors
            except OSError as error:
                raise _unreadable(f"{folder}/", error) from error
        if len(names) > MAX_ENTRIES:
            raise ContentMismatch(detail=f"{folder}/ holds more than {MAX_ENTRIES:,} names", remedy=_REMEDY_COPY)
        return tuple(sorted(names))

    @contextmanager
    def open(self, folder: str, name: str) -> Iterator[int]:
        """Open a regular file and give its descriptor.

        Raises FileNotFoundError where there is none, ContentMismatch where it is not a regular file
        or `name` is not one name, MediaMissing where the medium fails.
        """
        with _opened(self.path, folder, name) as descriptor:
            yield descriptor

    def size(self, folder: str, name: str) -> int:
        """Return a file's size in bytes; raises what `open` raises."""
        with self.open(folder, name) as descriptor:
            return os.fstat(descriptor).st_size

    def read(self, folder: str, name: str, *, limit: int) -> bytes:
        """Return a whole file of at most `limit` bytes; raises what `open` raises, and ContentMismatch."""
        with self.open(folder, name) as descriptor:
            content = read_at(descriptor, limit + 1, 0, f"{folder}/{name}")
        if len(content) > limit:
            raise ContentMismatch(
                detail=f"{folder}/{name} is larger than the {limit:,} bytes that it may have", remedy=_REMEDY_COPY
            )
        return content


def open_bundle(path: Path) -> Bundle:
    """Open the medium at `path`. Raises MediaMissing where no bundle is there."""
    if not path.is_dir():
        raise MediaMissing(detail=f"{path} is not a folder", remedy="Check that the medium is mounted, and where.")
    bundle = Bundle(path)
    for folder in FOLDERS:
        with _opened(path, folder, None):
            pass
    try:
        bundle.size(METADATA, "timestamp.json")
    except FileNotFoundError as error:
        raise MediaMissing(
            detail=f"{path} holds no metadata/timestamp.json", remedy="Name the folder that holds `metadata`."
        ) from error
    return bundle


def peek(bundle: Bundle) -> Release:
    """Read the release of a medium **without verifying anything**; for showing only.

    Raises ContentMismatch, MediaMissing, ReleaseInvalid or PairMismatch where it cannot be read.
    """
    return release_from_bytes(manifest_bytes(bundle))


def manifest_bytes(bundle: Bundle) -> bytes:
    """Return the bytes of a medium's manifest, **unverified**. Raises ContentMismatch, MediaMissing."""
    names = [name for name in bundle.names(TARGETS) if name.endswith(RELEASE_SUFFIX)]
    if len(names) != 1:
        raise ContentMismatch(detail=f"targets/ holds {len(names)} manifests instead of one", remedy=_REMEDY_COPY)
    content = bundle.read(TARGETS, names[0], limit=MAX_RELEASE_BYTES)
    if names[0] != f"{sha256_hex(content)}{RELEASE_SUFFIX}":
        raise ContentMismatch(detail=f"targets/{names[0]} does not have the digest in its name", remedy=_REMEDY_COPY)
    return content


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return up to `limit` bytes of a file that lies on a medium, but in none of its folders.

    Raises ContentMismatch where it is not a regular file, FileNotFoundError, MediaMissing.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = _open_regular(path.name, folder, str(path))
    finally:
        os.close(folder)
    try:
        return read_at(descriptor, limit, 0, str(path))
    finally:
        os.close(descriptor)


def parts(entry: FileEntry) -> tuple[Part, ...]:
    """Return the parts that carry a file; an empty file has none."""
    return tuple(
        Part(
            name=f"{entry.sha256}.p{number:03d}",
            offset=number * PART_BYTES,
            size_bytes=min(PART_BYTES, entry.size_bytes - number * PART_BYTES),
        )
        for number in range(pieces(entry.size_bytes, PART_BYTES))
    )


def read_at(descriptor: int, length: int, offset: int, what: str) -> bytes:
    """Read up to `length` bytes at `offset`, fewer only at the end; raises MediaMissing when reading fails."""
    chunks = []
    while length > 0:
        try:
            chunk = os.pread(descriptor, length, offset)
        except OSError as error:
            raise _unreadable(what, error) from error
        if not chunk:
            break
        chunks.append(chunk)
        offset += len(chunk)
        length -= len(chunk)
    return b"".join(chunks)


@contextmanager
def _opened(path: Path, folder: str, name: str | None) -> Iterator[int]:
    """Open `path/folder` or `path/folder/name`, checking every step below `path`."""
    what = f"{folder}/{name or ''}"
    if folder not in (*FOLDERS, VOLUME, RECEIPTS) or (
        name is not None and (not name or name in {".", ".."} or "/" in name or "\0" in name)
    ):
        raise ContentMismatch(detail=f"{what!a} is not a place on a medium", remedy=_REMEDY_COPY)
    opened: list[int] = []
    try:
        try:
            opened.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            opened.append(os.open(folder, _OPEN_FOLDER, dir_fd=opened[-1]))
        except OSError as error:
            raise _unreadable(f"{folder}/", error) from error
        if name is not None:
            opened.append(_open_regular(name, opened[-1], what))
        yield opened[-1]
    finally:
        for descriptor in reversed(opened):
            os.close(descriptor)


def _open_regular(name: str, folder: int, what: str) -> int:
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise ContentMismatch(detail=f"{what} is {_kind(mode)}, not a regular file", remedy=_REMEDY_COPY)
        descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(what, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it was changed between the two calls
        os.close(descriptor)
        raise ContentMismatch(detail=f"{what} is not a regular file", remedy=_REMEDY_COPY)
    return descriptor


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISDIR, "a folder"))
    return next((name for test, name in kinds if test(mode)), "a device or socket")


def _unreadable(what: str, error: OSError) -> MediaMissing:
    return MediaMissing(
        detail=f"{what} could not be read: {error.strerror or error}",
        remedy="Check that the right medium is mounted; if it is, copy the bundle to another medium and try again.",
    )
