"""What is still to come: which volumes of a set are not here, and what they could bring. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from bundles.errors import VolumesMissing
from bundles.media.header import VolumeHeader, volume_label
from bundles.media.plan import Leaf, Plan


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The sets that the headers here speak of, each with its plan, by their number of data volumes."""

    plans: Mapping[int, Plan]
    headers: tuple[VolumeHeader, ...]

    def may_come(self, leaf: Leaf) -> bool:
        """Whether a volume that is not here carries the leaf, or parity for it."""
        return any(
            place.volume + 1 in absent or any(number > data for number in absent)
            for data, absent in self._absent.items()
            if (place := self.plans[data].places.get(leaf.key))
        )

    def is_to_come(self, leaf: Leaf) -> bool:
        """Whether the data volume that carries the leaf is not here."""
        return any(
            place.volume + 1 in absent
            for data, absent in self._absent.items()
            if (place := self.plans[data].places.get(leaf.key))
        )

    def missing(self, lacking: Iterable[Leaf]) -> VolumesMissing:
        """Return what to tell a person: which volumes to put in next, and what is wanted again."""
        leaves = tuple(lacking)
        told = [self._told(data, absent, leaves) for data, absent in self._absent.items()]
        return VolumesMissing(
            detail="; or, of another set: ".join(told),
            remedy="What is here was verified and is kept. Put in the next volume, in any order, and import again.",
        )

    @cached_property
    def _absent(self) -> Mapping[int, frozenset[int]]:
        """The numbers of the volumes of each set that are not here."""
        return {
            data: frozenset(range(1, data + 1 + max(header.parity for header in self.headers if header.data == data)))
            - {header.number for header in self.headers if header.data == data}
            for data in self.plans
        }

    def _told(self, data: int, absent: frozenset[int], leaves: tuple[Leaf, ...]) -> str:
        found = self.plans[data]
        wanted = Counter(found.places[leaf.key].volume + 1 for leaf in leaves if leaf.key in found.places)
        held = {number: sum(map(len, found.volume(number - 1))) for number in wanted}
        whole = [number for number in sorted(wanted) if number in absent and wanted[number] == held[number]]
        partly = [number for number in sorted(wanted) if number not in whole]
        parity = [number for number in sorted(absent) if number > data]
        told = []
        if whole:
            told.append("still to come: " + ", ".join(self._name(data, number) for number in whole))
        told += [
            f"{self._name(data, number)} again, or a repair volume: {wanted[number]} of its {held[number]} leaves "
            "are damaged or were not read"
            for number in partly
        ]
        if parity:
            told.append("parity can stand in: " + ", ".join(self._name(data, number) for number in parity))
        return "; ".join(told)

    def _name(self, data: int, number: int) -> str:
        header = self.headers[0]
        total = data + max(header.parity for header in self.headers if header.data == data)
        return f"volume {number} of {total} ({volume_label(header.release, number, data)})"
