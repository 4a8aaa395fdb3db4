"""Files put together from a node's store and a delta's medium, as `Blobs` for verification and import.

Every leaf that comes from here is hashed by the caller and compared with the signed digest. So base
bytes need no check of their own: when a leaf is wrong, and only then, the bases under it are hashed,
to tell a damaged store from a damaged medium.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from bundles.blobs import Corrupt, Diff
from bundles.delta.chunks import CarriedFile
from bundles.delta.instructions import MAX_DELTA_BYTES, NAME, Base, FilePlan, delta_from_bytes
from bundles.digest import pieces
from bundles.errors import ContentMismatch, DeltaBaseDamaged, DeltaMisfit
from bundles.layout import BLOBS, Bundle
from bundles.release import LEAF_BYTES, PART_BYTES, FileEntry
from bundles.store import Store
from bundles.transfer import read_into

_SHOWN = 5
_FULL = "Bring the full bundle, or a delta that was made against a new inventory of this node."


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """`length` bytes from `offset` of a base, or of what the medium carries where `base` is None."""

    base: Base | None
    offset: int
    length: int


def whole_stem(sha256: str) -> str:
    """Return what the names of a whole file's parts begin with (`bundles.layout.parts`)."""
    return f"{sha256}.p"


def carried_stem(sha256: str) -> str:
    """Return what the names of a file's carried bytes begin with."""
    return f"{sha256}.l"


def open_delta(bundle: Bundle, store: Path) -> DeltaBlobs | None:
    """Open the medium as a delta on the store at `store`; None where it is no delta.

    Raises ContentMismatch where its instructions break a rule, MediaMissing.
    """
    names = frozenset(bundle.names(BLOBS))
    if NAME not in names:
        return None
    delta = delta_from_bytes(bundle.read(BLOBS, NAME, limit=MAX_DELTA_BYTES))
    return DeltaBlobs(bundle=bundle, store=Store(store / "sha256"), bases=delta.bases, plans=delta.plans, names=names)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaBlobs:
    """The files of a release, from store and medium together. Make one with `open_delta`."""

    bundle: Bundle
    store: Store
    bases: tuple[Base, ...]
    plans: Mapping[str, FilePlan]
    names: frozenset[str]

    def compare(self, files: Iterable[FileEntry]) -> Diff:
        """Compare names and sizes of what is carried; reads nothing else.

        Raises DeltaMisfit where the store lacks what the delta builds on, ContentMismatch where an
        instruction does not fit a file, MediaMissing.
        """
        wanted: dict[str, tuple[FileEntry, int]] = {}
        needed: dict[str, Base] = {}
        for entry in files:
            found = self.pieces(entry)
            needed |= {piece.base.sha256: piece.base for piece in found if piece.base is not None}
            carried = sum(piece.length for piece in found if piece.base is None)
            for number in range(pieces(carried, PART_BYTES)):
                size = min(PART_BYTES, carried - number * PART_BYTES)
                wanted.setdefault(f"{self._stem(entry)}{number:03d}", (entry, size))
        self._check_bases(needed.values())
        sizes = {name: self.bundle.size(BLOBS, name) for name in wanted if name in self.names}
        return Diff(
            missing=tuple(dict.fromkeys(entry.path for name, (entry, _) in wanted.items() if name not in sizes)),
            extra=tuple(f"{BLOBS}/{name}" for name in sorted(self.names - wanted.keys() - {NAME})),
            corrupt=tuple(
                Corrupt(path=entry.path, leaves=tuple(range(len(entry.leaves))))
                for name, (entry, size) in wanted.items()
                if sizes.get(name, size) != size
            ),
        )

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[RebuiltFile]:
        """Open one file for reading; raises ContentMismatch where an instruction does not fit it."""
        with ExitStack() as opened:
            yield RebuiltFile(
                entry=entry,
                pieces=self.pieces(entry),
                carried=CarriedFile(bundle=self.bundle, stem=self._stem(entry), opened=opened),
                store=self.store,
                opened=opened,
            )

    def pieces(self, entry: FileEntry) -> tuple[Piece, ...]:
        """Return where a file's bytes come from; a file without instructions is whole in one place."""
        plan = self.plans.get(entry.sha256)
        if plan is None:
            own = Base(path=entry.path, size_bytes=entry.size_bytes, sha256=entry.sha256)
            is_carried = f"{whole_stem(entry.sha256)}000" in self.names
            whole = Piece(base=None if is_carried else own, offset=0, length=entry.size_bytes)
            return (whole,) if entry.size_bytes else ()
        if plan.size_bytes != entry.size_bytes:
            raise ContentMismatch(
                detail=f"{entry.path}: the delta puts together {plan.size_bytes:,} bytes; "
                f"{entry.size_bytes:,} are signed",
                remedy="Do not import this medium. Make the delta again with `leeward bundle delta`.",
            )
        return tuple(
            Piece(
                base=None if segment.base is None else self.bases[segment.base],
                offset=segment.offset,
                length=segment.length,
            )
            for segment in plan.segments
        )

    def _stem(self, entry: FileEntry) -> str:
        return carried_stem(entry.sha256) if entry.sha256 in self.plans else whole_stem(entry.sha256)

    def _check_bases(self, bases: Iterable[Base]) -> None:
        absent = []
        for base in bases:
            with self.store.opened(_entry(base)) as descriptor:
                if descriptor is None:
                    absent.append(base.path)
        if absent:
            more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
            raise DeltaMisfit(
                detail=f"the store does not hold what the delta builds on: {', '.join(absent[:_SHOWN])}{more}",
                remedy=_FULL,
            )


@dataclass(slots=True, kw_only=True)
class RebuiltFile:
    """One file's bytes, leaf by leaf."""

    entry: FileEntry
    pieces: tuple[Piece, ...]
    carried: CarriedFile
    store: Store
    opened: ExitStack
    _descriptors: dict[str, int] = field(default_factory=dict)
    _sound: set[str] = field(default_factory=set)
    _ends: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._ends = list(accumulate(piece.length for piece in self.pieces))

    def fill(self, leaf: int, view: memoryview) -> None:
        """Fill `view` with a leaf's bytes; they are as yet unverified.

        Raises DeltaBaseDamaged where a base cannot be read, ContentMismatch where the medium ends
        too soon, MediaMissing when it cannot be read.
        """
        done = 0
        for piece, within in self._under(leaf, len(view)):
            target = view[done : done + piece.length - within]
            self._take(piece, piece.offset + within, target)
            done += len(target)

    def repair(self, leaf: int, view: memoryview) -> bool:
        """Say whose bytes were wrong: raises DeltaBaseDamaged if the store's, else gives False."""
        for piece, _ in self._under(leaf, len(view)):
            base = piece.base
            if base is not None and base.sha256 not in self._sound:
                self._check_sound(base)
                self._sound.add(base.sha256)
        return False

    def _under(self, leaf: int, length: int) -> Iterator[tuple[Piece, int]]:
        """Give the pieces under a leaf, each with where in it the leaf's bytes begin."""
        begin, end = leaf * LEAF_BYTES, leaf * LEAF_BYTES + length
        number = bisect_right(self._ends, begin)
        while number < len(self.pieces) and self._ends[number] - self.pieces[number].length < end:
            yield self.pieces[number], max(0, begin - self._ends[number] + self.pieces[number].length)
            number += 1

    def _take(self, piece: Piece, offset: int, target: memoryview) -> None:
        if piece.base is None:
            if self.carried.fill(target, offset) != len(target):
                raise ContentMismatch(
                    detail=f"{self.entry.path}: what the medium carries ends before byte {offset + len(target):,}",
                    remedy="Do not import this medium. Copy the delta again from where it was made.",
                )
            return
        try:
            count = read_into(self._descriptor(piece.base), target, offset)
        except OSError as error:
            raise _damaged(self.entry, piece.base, f"cannot be read: {error.strerror or error}") from error
        if count != len(target):
            raise _damaged(self.entry, piece.base, "is too short")

    def _descriptor(self, base: Base) -> int:
        """Open a base; raises DeltaBaseDamaged where it is not there, or of another size."""
        if base.sha256 not in self._descriptors:
            descriptor = self.opened.enter_context(self.store.opened(_entry(base)))
            if descriptor is None:
                raise _damaged(self.entry, base, "is not there any more, or has another size")
            self._descriptors[base.sha256] = descriptor
        return self._descriptors[base.sha256]

    def _check_sound(self, base: Base) -> None:
        with os.fdopen(os.dup(self._descriptor(base)), "rb") as stream:
            try:
                stream.seek(0)
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise _damaged(self.entry, base, f"cannot be read: {error.strerror or error}") from error
        if found != base.sha256:
            raise _damaged(self.entry, base, f"has digest {found}")


def _entry(base: Base) -> FileEntry:
    return FileEntry(path=base.path, size_bytes=base.size_bytes, sha256=base.sha256, leaves=())


def _damaged(entry: FileEntry, base: Base, what: str) -> DeltaBaseDamaged:
    return DeltaBaseDamaged(
        detail=f"{entry.path} builds on {base.path}, whose copy in the store ({base.sha256}) {what}",
        remedy="Import the full bundle, or the release that is installed, again: both repair the store.",
    )
