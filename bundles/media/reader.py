"""Leaves from any set of media: plain bundles, volumes, repair volumes, and what was kept before.

Each leaf is looked for where it may lie: first in the node's own store and staging, so that no medium
is read twice; then on each medium that has it; then it is computed from the other cells of its row
and parity. Whoever reads checks the result, and may ask for other bytes until there are none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

from bundles.blobs import Corrupt, Diff, damaged
from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, MediaMissing, VolumesMissing
from bundles.layout import BLOBS, Bundle
from bundles.media.header import VolumeHeader
from bundles.media.kept import Kept
from bundles.media.mend import Mender
from bundles.media.outlook import Outlook
from bundles.media.plan import LEAVES_PER_PART, Leaf, Piece, Plan, plan, unique_files
from bundles.release import LEAF_BYTES, FileEntry
from bundles.transfer import read_into

Source = Callable[[memoryview], bool]
"""Fills a view with bytes that may be right; says whether there were as many."""

_PIECE = re.compile(r"([0-9a-f]{64})\.p([0-9]{3})(?:\.([0-9]{3})-([0-9]{3}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One opened medium; a plain bundle, or one whose header is damaged, has no header."""

    bundle: Bundle
    header: VolumeHeader | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """Leaves `first` to `last` of a file in one piece on one medium."""

    volume: Volume
    name: str
    first: int
    last: int


class MediaBlobs:
    """The blobs of `files` (one release) over several media; may be read from several threads.

    An import that `goes_on` takes all that is good: a leaf that cannot be had is told as VolumesMissing
    like one that is still to come, and noted in `refused`. Otherwise it is told as damage.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        files: Sequence[FileEntry],
        *,
        kept: Kept | None = None,
        goes_on: bool = False,
    ) -> None:
        self.volumes = tuple(volumes)
        self.files = tuple(files)
        self.goes_on = goes_on
        self.refused: set[tuple[str, int]] = set()
        self._kept = kept
        self._rotten: set[tuple[str, int]] = set()
        self._entries = {entry.sha256: entry for entry in files}
        self._runs: dict[str, list[_Run]] = {}
        self._extra: list[str] = []
        self._mender = Mender(self)
        for volume in self.volumes:
            self._index(volume)

    def compare(self, files: Iterable[FileEntry]) -> Diff:
        """Compare names and sizes with the signed list; what another medium or parity has is no difference.

        Nor is, for an import of a set that goes on, what cannot be had: all the rest is taken first.
        """
        missing, corrupt = [], []
        is_patient = self.goes_on and bool(self.plans)
        for entry in () if is_patient else files:
            lacking = [leaf.number for leaf in self.lacking((entry,)) if not self.outlook.may_come(leaf)]
            if lacking and len(lacking) == len(entry.leaves):
                missing.append(entry.path)
            elif lacking:
                corrupt.append(Corrupt(path=entry.path, leaves=tuple(lacking)))
        return Diff(missing=tuple(missing), extra=tuple(self._extra), corrupt=tuple(corrupt))

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[LeafReader]:
        """Open one file for reading leaf by leaf."""
        with ExitStack() as stack:
            yield LeafReader(self, entry, stack)

    def lacking(self, files: Iterable[FileEntry]) -> tuple[Leaf, ...]:
        """Return the leaves that seem to be neither here nor computable, or were refused."""
        return tuple(
            leaf
            for entry in unique_files(files)
            for leaf in (Leaf(entry=entry, number=number) for number in range(len(entry.leaves)))
            if leaf.key in self.refused or not self.has(leaf)
        )

    def has(self, leaf: Leaf) -> bool:
        """Whether a leaf's bytes seem to be here, or can be computed; nothing is read."""
        return self.has_itself(leaf) or self._mender.can_mend(leaf)

    def has_itself(self, leaf: Leaf) -> bool:
        """The same without parity."""
        return self._is_kept(leaf) or self.on_media(leaf)

    def on_media(self, leaf: Leaf) -> bool:
        """Whether one of the media seems to carry the leaf."""
        return any(run.first <= leaf.number <= run.last for run in self._runs.get(leaf.entry.sha256, ()))

    def absent(self, leaf: Leaf) -> MediaMissing | ContentMismatch:
        """Return what to say where a leaf cannot be had now."""
        if self.goes_on:
            self.refused.add(leaf.key)
        if self.goes_on or self.outlook.may_come(leaf):
            return VolumesMissing(
                detail=f"{leaf.entry.path}, leaf {leaf.number}, could not be had from what is here",
                remedy="Put in the next volume, or make a repair request with `leeward bundle repair-request`.",
            )
        return damaged(leaf.entry, (leaf.number,))

    def sources(self, leaf: Leaf, opened: Mapping[object, int] | None = None) -> Iterator[Source]:
        """Give each place where the leaf itself may lie, without parity.

        Runs whose descriptors are in `opened` are read from there, others are opened for each read.
        """
        if self._is_kept(leaf):
            yield lambda view: self._read_kept(leaf, view)
        for run in self._runs.get(leaf.entry.sha256, ()):
            if run.first <= leaf.number <= run.last:
                yield _OnMedium(run, leaf.number, opened)

    def mended(self, leaf: Leaf) -> Iterator[Source]:
        """Give each way to compute the leaf from parity."""
        return self._mender.sources(leaf)

    def sound(self, leaf: Leaf) -> bytes | None:
        """Return a leaf's bytes with their signed digest, without parity; None where they are nowhere."""
        content = bytearray(leaf.size_bytes)
        view = memoryview(content)
        for source in self.sources(leaf):
            if tried(source, view) and sha256_hex(view) == leaf.sha256:
                return bytes(content)
        return None

    @cached_property
    def plans(self) -> Mapping[int, Plan]:
        """The plan of each set that a volume here belongs to, by its number of data volumes."""
        counts = {volume.header.data for volume in self.volumes if volume.header and volume.header.number}
        return {data: plan(self.files, data) for data in sorted(counts)}

    @cached_property
    def outlook(self) -> Outlook:
        """What other volumes of the set could bring."""
        return Outlook(plans=self.plans, headers=tuple(one.header for one in self.volumes if one.header))

    def _is_kept(self, leaf: Leaf) -> bool:
        return self._kept is not None and leaf.key not in self._rotten and self._kept.has(leaf.entry, leaf.number)

    def _read_kept(self, leaf: Leaf, view: memoryview) -> bool:
        """Read what was kept; wrong bytes there are forgotten, so that the right ones count as lacking."""
        try:
            is_right = (
                self._kept is not None
                and self._kept.read(leaf.entry, leaf.number, view)
                and sha256_hex(view) == leaf.sha256
            )
        except OSError:
            is_right = False
        if not is_right:
            self._rotten.add(leaf.key)
        return is_right

    def _index(self, volume: Volume) -> None:
        """Note what a medium seems to carry; names and sizes only."""
        for name in volume.bundle.names(BLOBS):
            piece = self._piece(name)
            try:
                size = volume.bundle.size(BLOBS, name) if piece else 0
            except FileNotFoundError:  # pulled out, or changed, since it was listed
                continue
            if piece is None or size > piece.size_bytes:
                self._extra.append(f"{BLOBS}/{name}")
                continue
            last = piece.last if size == piece.size_bytes else piece.first + size // LEAF_BYTES - 1
            run = _Run(volume=volume, name=name, first=piece.first, last=last)
            self._runs.setdefault(piece.entry.sha256, []).append(run)

    def _piece(self, name: str) -> Piece | None:
        """Read a piece's name; None where it is none of this release."""
        match = _PIECE.fullmatch(name)
        entry = self._entries.get(match[1]) if match else None
        if not match or not entry:
            return None
        base = int(match[2]) * LEAVES_PER_PART
        end = min(base + LEAVES_PER_PART, len(entry.leaves))
        first = base + int(match[3] or 0)
        last = base + int(match[4]) if match[4] else end - 1
        if not first <= last < end:
            return None
        piece = Piece(entry=entry, first=first, last=last)
        return piece if piece.name == name else None


class LeafReader:
    """One file's bytes, leaf by leaf, wherever they lie. Make one with `MediaBlobs.opened`."""

    def __init__(self, blobs: MediaBlobs, entry: FileEntry, stack: ExitStack) -> None:
        self._blobs = blobs
        self._entry = entry
        self._opened = _Descriptors(stack)
        self._left: dict[int, Iterator[Source]] = {}

    def fill(self, leaf: int, view: memoryview) -> None:
        """Fill `view` with the leaf's bytes from the first place that gives any.

        Raises VolumesMissing, or ContentMismatch where no other volume could bring it.
        """
        self._left[leaf] = self._places(leaf)
        if not self._next(leaf, view):
            raise self._blobs.absent(Leaf(entry=self._entry, number=leaf))

    def repair(self, leaf: int, view: memoryview) -> bool:
        """Fill `view` from the next place; False where there is none left. Raises VolumesMissing."""
        if self._next(leaf, view):
            return True
        error = self._blobs.absent(Leaf(entry=self._entry, number=leaf))
        if isinstance(error, VolumesMissing):
            raise error
        return False

    def _next(self, leaf: int, view: memoryview) -> bool:
        return any(tried(source, view) for source in self._left[leaf])

    def _places(self, number: int) -> Iterator[Source]:
        leaf = Leaf(entry=self._entry, number=number)
        yield from self._blobs.sources(leaf, self._opened)
        yield from self._blobs.mended(leaf)


class _Descriptors(dict[object, int]):
    """The pieces that one reader has open, each opened when it is first read."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self._stack = stack

    def __missing__(self, run: object) -> int:
        if not isinstance(run, _Run):
            raise KeyError(run)
        self[run] = self._stack.enter_context(run.volume.bundle.open(BLOBS, run.name))
        return self[run]


@dataclass(frozen=True, slots=True)
class _OnMedium:
    """A leaf in a piece on a medium."""

    run: _Run
    number: int
    opened: Mapping[object, int] | None

    def __call__(self, view: memoryview) -> bool:
        if self.opened is not None:
            return self._read(self.opened[self.run], view)
        with self.run.volume.bundle.open(BLOBS, self.run.name) as descriptor:
            return self._read(descriptor, view)

    def _read(self, descriptor: int, view: memoryview) -> bool:
        return read_into(descriptor, view, (self.number - self.run.first) * LEAF_BYTES) == len(view)


def tried(source: Source, view: memoryview) -> bool:
    """Whether a source gave bytes; one that fails is like one that is not there."""
    try:
        return source(view)
    except (OSError, ContentMismatch, MediaMissing):
        return False
