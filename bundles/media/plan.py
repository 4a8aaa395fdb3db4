"""Where each leaf of a release lies in a set of volumes. Pure.

The leaves of all different files stand in one order: first what day 0 needs, then by path. Packed in
this order they fill *cells* of at most 16 MiB: a full leaf is a cell, smaller ones share one. Each
data volume takes an equal run of cells, and the cells that stand at the same place of their volumes
make a *row*. Parity volume p holds one parity cell for each row (bundles.media.parity), so a row
bears the loss of as many cells as there are parity volumes, whether it is one bad leaf or a volume.

All of this follows from the signed release and the number of data volumes: who reads a volume
computes the same plan, and nothing about places must be believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from bundles.bootstrap import DAY0
from bundles.digest import pieces
from bundles.errors import VolumeTooSmall
from bundles.media.parity import MAX_CELLS, padded
from bundles.release import LEAF_BYTES, PART_BYTES, FileEntry

CELL_BYTES = LEAF_BYTES
LEAVES_PER_PART = PART_BYTES // LEAF_BYTES
FILE_SLACK_BYTES = 128 * 1024
"""What a file may take beyond its bytes: the largest usual cluster, exFAT's up to 256 GB."""
MAX_NAMES = 9000
"""In one folder: FAT has 65,536 directory slots of 32 bytes, and a name as long as ours takes seven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One leaf of one file; `number` counts from 0."""

    entry: FileEntry
    number: int

    @property
    def size_bytes(self) -> int:
        """All leaves but the last are full."""
        return min(LEAF_BYTES, self.entry.size_bytes - self.number * LEAF_BYTES)

    @property
    def sha256(self) -> str:
        """The signed digest."""
        return self.entry.leaves[self.number]

    @property
    def key(self) -> tuple[str, int]:
        """What tells this leaf from all others: the file's digest and the number."""
        return self.entry.sha256, self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A run of leaves in one file in `blobs/`: a whole part, or leaves `first` to `last` (from 0) of it."""

    entry: FileEntry
    first: int
    last: int

    @property
    def name(self) -> str:
        """A whole part is named as on a plain medium; FAT and exFAT can hold either name."""
        part, first = divmod(self.first, LEAVES_PER_PART)
        last = self.last - part * LEAVES_PER_PART
        whole = first == 0 and self.last == min((part + 1) * LEAVES_PER_PART, len(self.entry.leaves)) - 1
        name = f"{self.entry.sha256}.p{part:03d}"
        return name if whole else f"{name}.{first:03d}-{last:03d}"

    @property
    def size_bytes(self) -> int:
        """Less than 4 GiB, as FAT32 wants it."""
        return min((self.last + 1) * LEAF_BYTES, self.entry.size_bytes) - self.first * LEAF_BYTES

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """In order."""
        return tuple(Leaf(entry=self.entry, number=number) for number in range(self.first, self.last + 1))


Cell = tuple[Leaf, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a leaf lies: data volume and row (from 0)."""

    volume: int
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityPlace:
    """A parity cell's file in `volume/`, which stays below 4 GiB, and where in it the cell begins."""

    name: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Plan:
    """The cells of a release over `data` volumes. Make one with `plan`."""

    cells: tuple[Cell, ...]
    data: int

    @property
    def rows(self) -> int:
        """How many cells the fullest volume holds."""
        return pieces(len(self.cells), self.data)

    def volume(self, number: int) -> tuple[Cell, ...]:
        """Return the cells of data volume `number` (from 0)."""
        return self.cells[self._start(number) : self._start(number + 1)]

    def cell(self, place: Place) -> Cell:
        """Return the cell at a place; a volume that ends earlier has an empty one."""
        volume = self.volume(place.volume)
        return volume[place.row] if place.row < len(volume) else ()

    def pieces(self, number: int) -> tuple[Piece, ...]:
        """Return what `blobs/` of data volume `number` (from 0) holds."""
        return runs(leaf for cell in self.volume(number) for leaf in cell)

    def row_bytes(self, row: int) -> int:
        """Return the size of a row's parity cell."""
        return padded(max(cell_bytes(self.cell(Place(volume=volume, row=row))) for volume in range(self.data)))

    @cached_property
    def parity_places(self) -> tuple[ParityPlace, ...]:
        """Where each row's cell lies in a parity volume."""
        found: list[ParityPlace] = []
        offset = 0
        for row in range(self.rows):
            if row % LEAVES_PER_PART == 0:
                offset = 0
            name = f"parity.{row // LEAVES_PER_PART:03d}"
            found.append(ParityPlace(name=name, offset=offset, size_bytes=self.row_bytes(row)))
            offset += found[-1].size_bytes
        return tuple(found)

    @cached_property
    def places(self) -> dict[tuple[str, int], Place]:
        """Where each leaf is, by its key."""
        return {
            leaf.key: Place(volume=volume, row=row)
            for volume in range(self.data)
            for row, cell in enumerate(self.volume(volume))
            for leaf in cell
        }

    def _start(self, volume: int) -> int:
        return volume * len(self.cells) // self.data


def plan(files: Iterable[FileEntry], data: int) -> Plan:
    """Spread the leaves of `files` over `data` volumes. Raises ValueError for more than 255 or fewer than 1."""
    if not 1 <= data <= MAX_CELLS:
        raise ValueError(f"{data} is not a number of volumes")
    return Plan(tuple(_cells(files)), data)


def plan_for(files: Iterable[FileEntry], *, volume_bytes: int, parity: int, reserved_bytes: int) -> Plan:
    """Find the fewest data volumes of `volume_bytes` each.

    `reserved_bytes` is what each volume holds beside blobs and parity. Raises VolumeTooSmall where
    even the most volumes that a set can have do not suffice.
    """
    cells = tuple(_cells(files))
    most = MAX_CELLS - parity
    room = volume_bytes - reserved_bytes
    fewest = max(1, pieces(sum(map(cell_bytes, cells)), max(room, 1)))
    for data in range(fewest, min(most, max(1, len(cells))) + 1):
        found = Plan(cells, data)
        if all(_fits(found, number, room) for number in range(data)) and (not parity or _parity_bytes(found) <= room):
            return found
    raise VolumeTooSmall(
        detail=f"volumes of {volume_bytes:,} bytes cannot carry this bundle: each needs {reserved_bytes:,} bytes for "
        f"what every volume holds, content comes in cells of {CELL_BYTES:,} bytes, and a set has at most {most} "
        "data volumes",
        remedy="Take larger volumes.",
    )


def runs(leaves: Iterable[Leaf]) -> tuple[Piece, ...]:
    """Gather leaves that follow each other in one part of one file into pieces."""
    found = []
    numbered = enumerate(leaves)
    for _, group in groupby(
        numbered, lambda item: (item[1].entry.sha256, item[1].number // LEAVES_PER_PART, item[1].number - item[0])
    ):
        run = [leaf for _, leaf in group]
        found.append(Piece(entry=run[0].entry, first=run[0].number, last=run[-1].number))
    return tuple(found)


def unique_files(files: Iterable[FileEntry]) -> tuple[FileEntry, ...]:
    """Return one entry for each content, in the order of the plan: day 0 first, then by path."""
    ordered = sorted(files, key=lambda entry: (not entry.path.startswith(DAY0), entry.path))
    return tuple({entry.sha256: entry for entry in reversed(ordered)}.values())[::-1]


def cell_bytes(cell: Cell) -> int:
    """Return how many bytes a cell has."""
    return sum(leaf.size_bytes for leaf in cell)


def _cells(files: Iterable[FileEntry]) -> Iterable[Cell]:
    cell: list[Leaf] = []
    filled = 0
    for entry in unique_files(files):
        for number in range(len(entry.leaves)):
            leaf = Leaf(entry=entry, number=number)
            if cell and filled + leaf.size_bytes > CELL_BYTES:
                yield tuple(cell)
                cell, filled = [], 0
            cell.append(leaf)
            filled += leaf.size_bytes
    if cell:
        yield tuple(cell)


def _fits(found: Plan, number: int, room: int) -> bool:
    held = found.pieces(number)
    return len(held) <= MAX_NAMES and sum(piece.size_bytes + FILE_SLACK_BYTES for piece in held) <= room


def _parity_bytes(found: Plan) -> int:
    places = found.parity_places
    return sum(place.size_bytes for place in places) + FILE_SLACK_BYTES * len({place.name for place in places})
