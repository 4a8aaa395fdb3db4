"""What a screen has read from the daemon: the newest answer, its age, and what the last try met.

An answer is never thrown away because a later try failed: it grows old, and is then drawn as old.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar

from bundles.errors import LeewardError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Generic[T]):
    """`value` is as of `at`; `trouble` is what the last try met."""

    value: T | None = None
    at: datetime | None = None
    trouble: LeewardError | None = None

    def seen(self, value: T, at: datetime) -> Reading[T]:
        """Return the reading after an answer."""
        return Reading(value=value, at=at)

    def failed(self, error: LeewardError) -> Reading[T]:
        """Return the reading after a try that failed; the last answer stays."""
        return replace(self, trouble=error)

    def age_s(self, now: datetime) -> float:
        """Return how old the answer is, in seconds; 0 where there is none."""
        return 0.0 if self.at is None else (now - self.at).total_seconds()

    def is_stale(self, now: datetime, after_s: float) -> bool:
        """Say whether there is an answer, but no longer a fresh one."""
        return self.value is not None and (self.trouble is not None or self.age_s(now) > after_s)
