"""Quotas: how much a key, a team or a legal entity may use.

Windows are the calendar's, in UTC: a minute, a day, a month. A request counts in the windows in
which it was admitted, with all its tokens, so that what is counted in memory and what the ledger
adds up are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """Whose quota it is."""

    KEY = "key"
    TEAM = "team"
    ENTITY = "entity"


class Measure(StrEnum):
    """What is counted: prompt and completion tokens, admitted requests, requests under way."""

    TOKENS = "tokens"
    REQUESTS = "requests"
    CONCURRENCY = "concurrency"


class Period(StrEnum):
    """The calendar's windows, in UTC."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"

    def start(self, at: datetime) -> datetime:
        """Return when the window around `at` began."""
        minute = at.astimezone(UTC).replace(second=0, microsecond=0)
        if self is Period.MINUTE:
            return minute
        day = minute.replace(hour=0, minute=0)
        return day if self is Period.DAY else day.replace(day=1)

    def end(self, at: datetime) -> datetime:
        """Return when the window around `at` ends and the next begins."""
        start = self.start(at)
        if self is Period.MONTH:
            return (start + timedelta(days=31)).replace(day=1)
        return start + (timedelta(minutes=1) if self is Period.MINUTE else timedelta(days=1))


class QuotaKind(StrEnum):
    """What a quota limits, as it is written on the command line and in the ledger."""

    TOKENS_PER_MINUTE = "tokens/minute"
    TOKENS_PER_DAY = "tokens/day"
    TOKENS_PER_MONTH = "tokens/month"
    REQUESTS_PER_MINUTE = "requests/minute"
    REQUESTS_PER_DAY = "requests/day"
    REQUESTS_PER_MONTH = "requests/month"
    CONCURRENCY = "concurrency"

    @property
    def measure(self) -> Measure:
        """What is counted."""
        return Measure(self.value.partition("/")[0])

    @property
    def period(self) -> Period | None:
        """In which window; none for what is counted at this moment."""
        name = self.value.partition("/")[2]
        return Period(name) if name else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One limit of one subject: a key's id, or the name of a team or a legal entity.

    `amount` 0 lets nothing through.
    """

    scope: Scope
    subject: str
    kind: QuotaKind
    amount: int
    set_at: datetime

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= MOST:
            raise ValueError(f"a quota is a whole number from 0 to {MOST}")


MOST: Final = 10**15


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaUse:
    """A limit, and what of it is used in the present window; concurrency is known to the gateway only."""

    quota: Quota
    used: int | None
    resets_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What is left of one quota: for `x-ratelimit-*`."""

    measure: Measure
    limit: int
    left: int
    resets_in_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierUse:
    """What one key has used in a window before this start of the gateway."""

    key_id: str
    team: str
    requests: int
    tokens: int
