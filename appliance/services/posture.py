"""Posture: asks every item's probe and judges what it saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from appliance.domain.posture import Observation, PostureFinding, PostureItem, judge


class PostureProbe(Protocol):
    """Measures one thing on the node."""

    def __call__(self, *arguments: str) -> Observation:
        """Look. What cannot be seen is an observation too; raises nothing for it."""
        ...


class Posture:
    """The compliance table of a node. Raises KeyError where an item names a probe that does not exist."""

    def __init__(self, items: Sequence[PostureItem], probes: Mapping[str, PostureProbe]) -> None:
        self._asked = [(item, probes[item.probe]) for item in items]

    def findings(self) -> tuple[PostureFinding, ...]:
        """Measure every item now."""
        return tuple(judge(item, probe(*item.arguments)) for item, probe in self._asked)
