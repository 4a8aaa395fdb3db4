"""Write a volume: to a folder, or straight onto a mounted stick.

A volume is complete in itself: all metadata, the manifest, `bootstrap`, a text for people, the custody
receipts that lie on the bundle, and its share of the content. Every file is written under
`NAME.partial`, made durable and renamed; `volume/header.json` comes last. So a volume that was cut off
by a power failure lacks its header, says in READ-ME-FIRST.txt that it is unfinished, and is gone on
with at the first file that is not whole. Content is checked against the manifest while it is copied: a
damaged bundle is not spread.
Nothing is removed or replaced that this volume's own writing did not make.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bundles.blobs import Blobs, damaged
from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, LeewardError, OutputOccupied, StoreFull, StoreUnusable, VolumeForeign
from bundles.layout import BLOBS, FOLDERS, METADATA, RECEIPTS, TARGETS, VOLUME, Bundle, read_at, read_regular
from bundles.media.header import (
    HEADER,
    MAX_HEADER_BYTES,
    PARTIAL,
    Held,
    VolumeHeader,
    VolumeKind,
    header_from_bytes,
    header_to_bytes,
)
from bundles.media.parity import Combination, coefficient
from bundles.media.plan import FILE_SLACK_BYTES, Leaf, Piece, Place, Plan, cell_bytes
from bundles.media.receipts import receipts_on
from bundles.release import MAX_RELEASE_BYTES, Release
from bundles.transfer import Meter, fsync_folder, write_from

BOOTSTRAP = "bootstrap"
README = "READ-ME-FIRST.txt"
MAX_BOOTSTRAP_BYTES = 16 * 1024 * 1024
_ROOT_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The bundle that is spread: its folder for what every volume holds, its release, and its blobs."""

    bundle: Bundle
    release: Release
    blobs: Blobs

    def common(self) -> Iterator[tuple[str, bytes]]:
        """Give path and bytes of what every volume holds. Raises what `Bundle.read` raises."""
        for folder in (METADATA, TARGETS):
            for name in self.bundle.names(folder):
                yield f"{folder}/{name}", self.bundle.read(folder, name, limit=MAX_RELEASE_BYTES)
        try:
            descriptor = os.open(self.bundle.path / BOOTSTRAP, _ROOT_FLAGS)
        except FileNotFoundError:
            return
        try:
            yield BOOTSTRAP, read_at(descriptor, MAX_BOOTSTRAP_BYTES, 0, BOOTSTRAP)
        finally:
            os.close(descriptor)

    def leaf(self, leaf: Leaf) -> bytes:
        """Return a leaf with its signed digest. Raises ContentMismatch, MediaMissing."""
        content = bytearray(leaf.size_bytes)
        view = memoryview(content)
        with self.blobs.opened(leaf.entry) as reader:
            reader.fill(leaf.number, view)
            while sha256_hex(view) != leaf.sha256:
                if not reader.repair(leaf.number, view):
                    raise damaged(leaf.entry, (leaf.number,))
        return bytes(content)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeWriter:
    """Writes one volume to `out`. `header` comes without digests; `readme` are lines for people."""

    source: Source
    header: VolumeHeader
    out: Path
    readme: str
    meter: Meter

    def write_pieces(self, pieces: Iterable[Piece]) -> VolumeHeader:
        """Write a data or repair volume, or end one that was cut off; a whole one is left alone.

        Raises VolumeForeign or OutputOccupied where something else is there, StoreFull,
        StoreUnusable, ContentMismatch, MediaMissing and ReceiptInvalid for the bundle, Canceled.
        """
        with self._volume() as whole:
            if whole:
                self.meter.add(self.header.label, sum(piece.size_bytes for piece in pieces))
                return whole
            for piece in pieces:
                self._write_piece(piece)
            return self._end(self.header)

    def write_parity(self, plan: Plan) -> VolumeHeader:
        """Write a parity volume, or end one that was cut off; raises what `write_pieces` raises."""
        with self._volume() as whole:
            if whole:
                self.meter.add(self.header.label, sum(map(cell_bytes, plan.cells)))
                return whole
            digests: list[str] = []
            for held in self.header.holds:
                rows = [row for row, place in enumerate(plan.parity_places) if place.name == held.name]
                digests += self._write_parity_file(held, plan, rows)
            return self._end(replace(self.header, digests=tuple(digests)))

    @contextmanager
    def _volume(self) -> Iterator[VolumeHeader | None]:
        """Prepare the folder; gives the header of a volume that is whole already."""
        with _writing(self.out):
            whole = self._claim()
            if whole is None:
                self._begin()
            yield whole

    def _claim(self) -> VolumeHeader | None:
        """Look what is in the folder. Raises VolumeForeign, OutputOccupied."""
        self.out.mkdir(parents=True, exist_ok=True)
        linked = [name for name in (*FOLDERS, VOLUME, RECEIPTS) if (self.out / name).is_symlink()]
        if linked:
            raise OutputOccupied(
                detail=f"on {self.out}, {', '.join(linked)} is a link that leads elsewhere",
                remedy="Name a new folder, or empty the stick.",
            )
        for name in (HEADER, PARTIAL):
            path = self.out / VOLUME / name
            if not path.is_file():
                continue
            found = _header(path)
            if found is None or replace(found, digests=()) != self.header:
                there = f"volume {found.number} of set {found.release[:16]}" if found else "an unreadable header"
                raise VolumeForeign(
                    detail=f"{self.out} holds {there}; to be written is volume {self.header.number} "
                    f"of set {self.header.release[:16]}",
                    remedy="Name another folder, or an empty stick.",
                )
            return found if name == HEADER else None
        ours = [name for name in (*FOLDERS, VOLUME, README, BOOTSTRAP) if (self.out / name).exists()]
        if ours and any(not name.is_dir() or any(name.iterdir()) for name in (self.out / one for one in ours)):
            raise OutputOccupied(
                detail=f"{self.out} holds {', '.join(ours)} already, but no volume that could be gone on with",
                remedy="Name a new folder, or empty the stick.",
            )
        return None

    def _begin(self) -> None:
        """Mark the volume as unfinished, check the room, and write what every volume holds."""
        for folder in (VOLUME, *FOLDERS):
            (self.out / folder).mkdir(exist_ok=True)
        self._place(Path(VOLUME, PARTIAL), header_to_bytes(self.header))
        self._place(Path(README), f"THIS VOLUME IS UNFINISHED: writing it was interrupted.\n\n{self.readme}".encode())
        common = tuple(self.source.common())
        self._check_room(sum(len(content) for _, content in common), len(common))
        for path, content in common:
            self._place(Path(path), content)
        self._take_receipts()

    def _take_receipts(self) -> None:
        """Let the receipts of the bundle travel along; those that are on the volume already stay."""
        for name, content in receipts_on(self.source.bundle):
            (self.out / RECEIPTS).mkdir(exist_ok=True)
            if not os.path.lexists(self.out / RECEIPTS / name):
                self._place(Path(RECEIPTS, name), content)

    def _check_room(self, common_bytes: int, common_files: int) -> None:
        folder = VOLUME if self.header.kind is VolumeKind.PARITY else BLOBS
        missing = [held.size_bytes for held in self.header.holds if not (self.out / folder / held.name).exists()]
        needed = common_bytes + sum(missing) + (len(missing) + common_files) * FILE_SLACK_BYTES
        free = shutil.disk_usage(self.out).free
        if free < needed:
            raise StoreFull(
                detail=f"volume {self.header.number} needs {needed:,} bytes more; {self.out} has {free:,} free",
                remedy="Take a larger or an empty stick, or split again with a smaller `--volume-size`.",
            )

    def _write_piece(self, piece: Piece) -> None:
        path = Path(BLOBS, piece.name)
        if (self.out / path).exists():  # whole: it got its name after it was durable
            self.meter.add(piece.entry.path, piece.size_bytes)
            return
        with self._file(path) as descriptor:
            offset = 0
            for leaf in piece.leaves:
                self.meter.check()
                content = self.source.leaf(leaf)
                write_from(descriptor, memoryview(content), offset)
                offset += len(content)
                self.meter.add(piece.entry.path, len(content))

    def _write_parity_file(self, held: Held, plan: Plan, rows: list[int]) -> list[str]:
        """Write the cells of some rows, or read them back where the file is whole; returns their digests."""
        path = self.out / VOLUME / held.name
        count = sum(cell_bytes(plan.cell(Place(volume=volume, row=row))) for row in rows for volume in range(plan.data))
        if path.exists():
            self.meter.add(held.name, count)
            return self._digests(path, plan, rows)
        digests = []
        with self._file(Path(VOLUME, held.name)) as descriptor:
            for row in rows:
                content = self._parity_cell(plan, row, held.name)
                digests.append(sha256_hex(content))
                write_from(descriptor, memoryview(content), plan.parity_places[row].offset)
        return digests

    def _parity_cell(self, plan: Plan, row: int, name: str) -> bytes:
        number = self.header.number - self.header.data - 1
        total = Combination(plan.row_bytes(row))
        for volume in range(plan.data):
            self.meter.check()
            cell = plan.cell(Place(volume=volume, row=row))
            total.add(coefficient(number, volume), b"".join(map(self.source.leaf, cell)))
            self.meter.add(name, cell_bytes(cell))
        return total.content()

    def _digests(self, path: Path, plan: Plan, rows: list[int]) -> list[str]:
        with path.open("rb") as stream:
            return [sha256_hex(stream.read(plan.parity_places[row].size_bytes)) for row in rows]

    def _end(self, header: VolumeHeader) -> VolumeHeader:
        """Make the names durable, then say that the volume is whole."""
        self._place(Path(README), self.readme.encode())
        for folder in (*FOLDERS, VOLUME, "."):
            fsync_folder(self.out / folder)
        self._place(Path(VOLUME, HEADER), header_to_bytes(header))
        (self.out / VOLUME / PARTIAL).unlink(missing_ok=True)
        fsync_folder(self.out / VOLUME)
        return header

    def _place(self, path: Path, content: bytes) -> None:
        with self._file(path) as descriptor:
            write_from(descriptor, memoryview(content), 0)

    @contextmanager
    def _file(self, path: Path) -> Iterator[int]:
        """Give a descriptor to write to; the file gets its name when its bytes are durable."""
        final = self.out / path
        partial = final.with_name(f"{final.name}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.replace(final)
        fsync_folder(final.parent)


def reserved_bytes(source: Source) -> int:
    """Return what each volume needs beside its share of the content."""
    sizes = [len(content) for _, content in source.common()]
    return sum(sizes) + (len(sizes) + 8) * FILE_SLACK_BYTES + 4 * 1024 * 1024


def _header(path: Path) -> VolumeHeader | None:
    try:
        return header_from_bytes(read_regular(path, limit=MAX_HEADER_BYTES + 1))
    except ContentMismatch:
        return None


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn a failing write into StoreFull or StoreUnusable."""
    try:
        yield
    except LeewardError:
        raise
    except OSError as error:
        kind = StoreFull if error.errno in _FULL else StoreUnusable
        raise kind(
            detail=f"{error.filename or out}: {error.strerror or error}",
            remedy="Look at the stick (full, pulled out, write-protected?), then run the same command again; "
            "it goes on where it stopped.",
        ) from error
