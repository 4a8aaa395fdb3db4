"""Make a delta: the medium of a bundle, less what an inventory says is there.

A delta is made against an inventory, never against what was sent last: a medium that did not arrive
changes nothing. Each file is read once and hashed as a whole, so that a damaged bundle is noticed
here, and not after the journey.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bundles.delta.chunks import CarriedFile, Hashed, hash_cut, is_cut
from bundles.delta.instructions import NAME, SCHEMA, Base, Delta, FilePlan, Segment, delta_to_bytes
from bundles.delta.inventory import Chunk, HeldFile, Inventory, chunk_collector
from bundles.delta.rebuild import Piece, carried_stem, whole_stem
from bundles.digest import pieces
from bundles.errors import ContentMismatch, InventoryInvalid
from bundles.layout import BLOBS, FOLDERS, METADATA, RELEASE_SUFFIX, TARGETS, Bundle, peek
from bundles.manifest import section
from bundles.output import whole_folder
from bundles.release import MAX_RELEASE_BYTES, PART_BYTES, FileEntry, Release
from bundles.transfer import IsCanceled, Meter, Progress, each, never, silent, write_from

README = "READ-ME-FIRST.txt"
_COPY = "Take a good copy of the bundle, or build it again; then make the delta again."


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionWorth:
    """What a delta saves in one section of a release: bytes in all, and bytes that travel."""

    name: str
    size_bytes: int
    carried_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaReport:
    """What was written; `carried_bytes` are content, `size_bytes` everything in the folder."""

    folder: Path
    release: Release
    size_bytes: int
    carried_bytes: int
    sections: tuple[SectionWorth, ...]


def write_delta(
    bundle: Bundle,
    inventory: Inventory,
    *,
    out: Path,
    bases: Iterable[Bundle] = (),
    progress: Progress = silent,
    is_canceled: IsCanceled = never,
) -> DeltaReport:
    """Write to `out` what a node with `inventory` lacks of `bundle`.

    `bases` are bundles of releases that a receipt names. Raises InventoryInvalid where one is
    missing, ContentMismatch where a bundle is damaged, OutputOccupied, StoreFull, MediaMissing,
    ReleaseInvalid, Canceled; after any of them `out` is as it was.
    """
    release = peek(bundle)
    held = (*inventory.files, *_expanded(inventory, tuple(bases), is_canceled))
    with whole_folder(out) as unfinished:
        for folder in FOLDERS:
            (unfinished / folder).mkdir(parents=True)
        for folder in (METADATA, TARGETS):
            for name in bundle.names(folder):
                (unfinished / folder / name).write_bytes(bundle.read(folder, name, limit=MAX_RELEASE_BYTES))
        writer = _Writer(bundle=bundle, held=Held.of(held), blobs=unfinished / BLOBS)
        writer.write(release, progress, is_canceled)
        (unfinished / README).write_text(_readme(release, inventory), encoding="utf-8")
        size = sum(path.stat().st_size for path in unfinished.rglob("*") if path.is_file())
    return DeltaReport(
        folder=out,
        release=release,
        size_bytes=size,
        carried_bytes=sum(writer.carried.values()),
        sections=section_worths(release, writer.carried),
    )


@dataclass(frozen=True, slots=True)
class Held:
    """Where bytes lie in the store: whole files, and chunks by digest and length."""

    files: frozenset[str]
    chunks: Mapping[tuple[str, int], tuple[Base, int]]

    @classmethod
    def of(cls, held: Iterable[HeldFile]) -> Held:
        """Sort what an inventory names, so that bytes are found by their digest."""
        files: set[str] = set()
        chunks: dict[tuple[str, int], tuple[Base, int]] = {}
        for file in held:
            files.add(file.sha256)
            base = Base(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256)
            for chunk in file.chunks:
                chunks.setdefault((chunk.sha256, chunk.length), (base, chunk.offset))
        return cls(frozenset(files), chunks)

    def lacking(self, release: Release) -> tuple[FileEntry, ...]:
        """Return the files of a release that are not here whole, each content once."""
        return tuple({entry.sha256: entry for entry in release.files if entry.sha256 not in self.files}.values())

    def find(self, entry: FileEntry, chunk: Hashed) -> tuple[Base, int] | None:
        """Return file and offset at which a chunk of `entry` lies; None where it must travel."""
        if not chunk.sha256 or not is_cut(entry.path, entry.size_bytes):
            return None
        return self.chunks.get((chunk.sha256, chunk.at.length))


@dataclass(slots=True, kw_only=True)
class _Writer:
    """Writes `blobs/`."""

    bundle: Bundle
    held: Held
    blobs: Path
    carried: dict[str, int] = field(default_factory=dict)
    _plans: dict[str, tuple[Piece, ...]] = field(default_factory=dict)

    def write(self, release: Release, progress: Progress, is_canceled: IsCanceled) -> None:
        lacking = self.held.lacking(release)
        total = sum(entry.size_bytes for entry in lacking)
        meter = Meter(total=total, progress=progress, is_canceled=is_canceled)
        each(lacking, partial(self._one, meter=meter), meter)
        (self.blobs / NAME).write_bytes(delta_to_bytes(self._delta()))

    def _one(self, entry: FileEntry, pool: Executor, meter: Meter) -> None:
        """Write what one file needs: all of it under its own name, or what no base has."""
        output = _Output(blobs=self.blobs, stem=carried_stem(entry.sha256))
        found = _Pieces()

        def take(chunk: Hashed) -> None:
            meter.check()
            known = self.held.find(entry, chunk)
            if known is None:
                found.add(None, output.size_bytes, chunk.at.length)
                output.append(chunk.view)
            else:
                found.add(*known, chunk.at.length)
            meter.add(entry.path, chunk.at.length)

        read_signed(self.bundle, entry, take, pool)
        self.carried[entry.sha256] = output.size_bytes
        if output.size_bytes == entry.size_bytes:
            output.rename(whole_stem(entry.sha256))
        else:
            self._plans[entry.sha256] = tuple(found.pieces)

    def _delta(self) -> Delta:
        used = (piece.base for pieces_ in self._plans.values() for piece in pieces_ if piece.base is not None)
        bases = {base.sha256: base for base in used}
        numbers = {sha256: number for number, sha256 in enumerate(sorted(bases))}
        plans = (
            FilePlan(
                sha256=sha256,
                segments=tuple(
                    Segment(
                        base=None if piece.base is None else numbers[piece.base.sha256],
                        offset=piece.offset,
                        length=piece.length,
                    )
                    for piece in found
                ),
            )
            for sha256, found in sorted(self._plans.items())
        )
        return Delta(schema=SCHEMA, bases=tuple(bases[sha256] for sha256 in sorted(bases)), files=tuple(plans))


@dataclass(slots=True)
class _Pieces:
    """Pieces in order; one that goes on where the last ended is joined to it."""

    pieces: list[Piece] = field(default_factory=list)

    def add(self, base: Base | None, offset: int, length: int) -> None:
        last = self.pieces[-1] if self.pieces else None
        if last is not None and last.base == base and last.offset + last.length == offset:
            self.pieces[-1] = replace(last, length=last.length + length)
        else:
            self.pieces.append(Piece(base=base, offset=offset, length=length))


@dataclass(slots=True, kw_only=True)
class _Output:
    """Bytes appended to pieces `blobs/<stem>000`, `001`, …, each as long as a part of a bundle."""

    blobs: Path
    stem: str
    size_bytes: int = 0

    def append(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            number, offset = divmod(self.size_bytes, PART_BYTES)
            piece = view[done : done + PART_BYTES - offset]
            descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                write_from(descriptor, piece, offset)
            finally:
                os.close(descriptor)
            done += len(piece)
            self.size_bytes += len(piece)

    def rename(self, stem: str) -> None:
        for number in range(pieces(self.size_bytes, PART_BYTES)):
            self._path(number).replace(self.blobs / f"{stem}{number:03d}")

    def _path(self, number: int) -> Path:
        return self.blobs / f"{self.stem}{number:03d}"


def _expanded(inventory: Inventory, bases: tuple[Bundle, ...], is_canceled: IsCanceled) -> tuple[HeldFile, ...]:
    """Return the files that a receipt means, from the bundles of the releases that it names."""
    if not inventory.is_receipt:
        return ()
    known = {name.removesuffix(RELEASE_SUFFIX): base for base in bases for name in base.names(TARGETS)}
    found: list[HeldFile] = []
    for named in inventory.releases:
        base = known.get(named.release_sha256)
        if base is None:
            raise InventoryInvalid(
                detail=f"the receipt names release {named.slot} ({named.release_sha256}), which no given base is",
                remedy="Name the bundle of that release with `--base`, or ask the node for a whole inventory.",
            )
        found += held_of(base, inventory.damaged, is_canceled)
    return tuple(found)


def held_of(base: Bundle, damaged: tuple[str, ...], is_canceled: IsCanceled) -> list[HeldFile]:
    """Return what a node that imported `base` holds, by reading the bundle."""
    release = peek(base)
    wanted = {entry.sha256: entry for entry in release.files if entry.sha256 not in damaged}
    meter = Meter(total=release.size_bytes, progress=silent, is_canceled=is_canceled)
    found: list[HeldFile] = []

    def one(entry: FileEntry, pool: Executor) -> None:
        chunks: list[Chunk] = []
        read_signed(base, entry, chunk_collector(entry, chunks, meter), pool)
        found.append(HeldFile(path=entry.path, size_bytes=entry.size_bytes, sha256=entry.sha256, chunks=tuple(chunks)))

    each(wanted.values(), one, meter)
    return sorted(found, key=lambda file: file.path)


def read_signed(bundle: Bundle, entry: FileEntry, take: Callable[[Hashed], None], pool: Executor) -> None:
    """Read a file of a whole bundle; raises ContentMismatch where it is not what its manifest says."""
    with ExitStack() as opened:
        source = CarriedFile(bundle=bundle, stem=whole_stem(entry.sha256), opened=opened)
        if hash_cut(entry.path, entry.size_bytes, source.fill, take, pool) != entry.sha256:
            raise ContentMismatch(detail=f"{entry.path} in {bundle.path} is not what its manifest says", remedy=_COPY)


def section_worths(release: Release, carried: Mapping[str, int]) -> tuple[SectionWorth, ...]:
    """Add up by section of a release what travels; `carried` says how many bytes of each digest do."""
    sizes: dict[str, list[int]] = {}
    counted: set[str] = set()
    for entry in release.files:
        both = sizes.setdefault(section(entry.path), [0, 0])
        both[0] += entry.size_bytes
        both[1] += 0 if entry.sha256 in counted else carried.get(entry.sha256, 0)
        counted.add(entry.sha256)
    return tuple(
        SectionWorth(name=name, size_bytes=size, carried_bytes=travels)
        for name, (size, travels) in sorted(sizes.items())
    )


def _readme(release: Release, inventory: Inventory) -> str:
    lines = [
        f"Leeward delta: {release.name} {release.version}, epoch {release.epoch}",
        f"For the node {inventory.node!a}, as its store was at {inventory.created_at:%Y-%m-%d %H:%M} UTC.",
        "",
        "It holds only what that store lacked, and is of no use to another node or a new installation.",
        "This text is for people. It is not signed.",
        "",
        "On the node:",
        "  leeward install          and name this folder",
        "",
    ]
    return "\n".join(lines)
