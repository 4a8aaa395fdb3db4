"""Leaves that are nowhere, computed from the other cells of their row and from parity.

A data cell goes into the sum only with its signed digests, a parity cell only with the digest that
its volume's header gives. Cells that turn out bad count as lost, and other parity cells are tried,
until there are too few. At most one cell is computed at a time, so memory stays near 64 MiB.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, MediaMissing
from bundles.layout import VOLUME, read_at
from bundles.media.header import VolumeKind
from bundles.media.parity import Combination, recipe
from bundles.media.plan import Cell, Leaf, Place, Plan, cell_bytes

if TYPE_CHECKING:
    from bundles.media.reader import MediaBlobs, Source, Volume

_REMEMBERED = 2
MOST_WRONG = 32
"""So many wrong results are computed for one leaf; each means that a header lied about a parity cell."""


class _BadCell(Exception):
    """A cell that seemed to be there is not what it should be; data volumes count from 0, parity p is -1 - p."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass(slots=True)
class Mender:
    """Computes leaves from parity. Several threads may ask; they are served one after the other."""

    blobs: MediaBlobs
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: OrderedDict[tuple[int, Place], bytes] = field(default_factory=OrderedDict)

    def can_mend(self, leaf: Leaf) -> bool:
        """Whether enough cells of the leaf's row seem to be here."""
        return any(
            (parity := self._parity(found, place.row)) and len(self._lost(found, place)) <= len(parity)
            for found, place in self._places(leaf)
        )

    def sources(self, leaf: Leaf) -> Iterator[Source]:
        """Give each way to compute the leaf."""
        for found, place in self._places(leaf):
            cell = found.cell(place)
            offset = cell_bytes(cell[: [one.key for one in cell].index(leaf.key)])
            for content in self._contents(found, place):
                yield partial(_copy, content, offset)

    def _places(self, leaf: Leaf) -> Iterator[tuple[Plan, Place]]:
        for found in self.blobs.plans.values():
            place = found.places.get(leaf.key)
            if place is not None:
                yield found, place

    def _contents(self, found: Plan, place: Place) -> Iterator[bytes]:
        """Give what the cell at `place` may hold, by every choice of parity cells that could tell."""
        lost = {*self._lost(found, place), place.volume}
        parity = self._parity(found, place.row)
        tried: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        given = 0
        while given < MOST_WRONG:
            choices = combinations(sorted(parity), len(lost))
            choice = next((used for used in choices if (used, tuple(sorted(lost))) not in tried), None)
            if choice is None:
                return
            tried.add((choice, tuple(sorted(lost))))
            try:
                content = self._content(found, place, lost, {number: parity[number] for number in choice})
            except _BadCell as bad:
                if bad.number < 0:
                    del parity[-1 - bad.number]
                else:
                    lost.add(bad.number)
            else:
                given += 1
                yield content

    def _content(self, found: Plan, place: Place, lost: set[int], parity: dict[int, Volume]) -> bytes:
        """Compute a cell. Raises _BadCell where another cell is not what it should be."""
        key = found.data, place
        with self._lock:
            if key in self._done:
                return self._done[key]
            content = self._computed(found, place, lost, parity)
            if _is_sound(found.cell(place), content):
                self._done[key] = content
                while len(self._done) > _REMEMBERED:
                    self._done.popitem(last=False)
            return content

    def _computed(self, found: Plan, place: Place, lost: set[int], parity: dict[int, Volume]) -> bytes:
        others = [volume for volume in sorted(lost) if volume != place.volume]
        kept = [volume for volume in range(found.data) if volume not in lost]
        total = Combination(found.row_bytes(place.row))
        for number, factor in recipe(place.volume, others, sorted(parity), kept).items():
            if number < 0:
                total.add(factor, _parity_cell(parity[-1 - number], found, place.row, number))
            else:
                total.add(factor, self._data_cell(found, Place(volume=number, row=place.row)))
        return total.content()

    def _data_cell(self, found: Plan, place: Place) -> bytes:
        leaves = [self.blobs.sound(leaf) for leaf in found.cell(place)]
        if None in leaves:
            raise _BadCell(place.volume)
        return b"".join(leaf for leaf in leaves if leaf is not None)

    def _lost(self, found: Plan, place: Place) -> set[int]:
        """Return the data volumes whose cell of this row is not wholly here."""
        return {
            volume
            for volume in range(found.data)
            if not all(map(self.blobs.has_itself, found.cell(Place(volume=volume, row=place.row))))
        }

    def _parity(self, found: Plan, row: int) -> dict[int, Volume]:
        """Return the parity volumes here, by number from 0, whose header knows the row's cell."""
        here: dict[int, Volume] = {}
        for volume in self.blobs.volumes:
            header = volume.header
            fits = header is not None and header.kind is VolumeKind.PARITY and header.data == found.data
            if header is not None and fits and row < len(header.digests):
                here.setdefault(header.number - found.data - 1, volume)
        return here


def _parity_cell(volume: Volume, found: Plan, row: int, number: int) -> bytes:
    place = found.parity_places[row]
    try:
        with volume.bundle.open(VOLUME, place.name) as descriptor:
            content = read_at(descriptor, place.size_bytes, place.offset, place.name)
    except (OSError, ContentMismatch, MediaMissing) as error:
        raise _BadCell(number) from error
    if volume.header is None or sha256_hex(content) != volume.header.digests[row]:
        raise _BadCell(number)
    return content


def _is_sound(cell: Cell, content: bytes) -> bool:
    view = memoryview(content)
    offset = 0
    for leaf in cell:
        if sha256_hex(view[offset : offset + leaf.size_bytes]) != leaf.sha256:
            return False
        offset += leaf.size_bytes
    return True


def _copy(content: bytes, offset: int, view: memoryview) -> bool:
    view[:] = memoryview(content)[offset : offset + len(view)]
    return True
