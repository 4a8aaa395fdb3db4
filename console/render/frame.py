"""Where and when a line is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from console.capabilities import Capabilities

WIDE = 100
"""Columns from which sections have boxes, bars and long notes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The room for one line, the present time, and what the terminal can show."""

    width: int
    now: datetime
    capabilities: Capabilities
    stale: bool = False

    @property
    def wide(self) -> bool:
        """Whether there is room for bars and long notes."""
        return self.width >= WIDE
