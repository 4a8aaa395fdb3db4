"""What is left of every quota, counted in memory.

The counts of this gateway's own requests start at zero with it. What earlier gateways used is read
from the ledger once for each window that a quota needs (`missing`, `add_earlier`); their records
are closed, so that nothing is counted twice and no request is missed, whenever that happens.
Every request is counted for its key, team and legal entity, whether they have quotas or not,
so that a quota set at noon holds for the whole day.

A request reserves at its admission what it may cost at most, as far as that is known: an estimate
of its prompt and the completion tokens that it allows. At its end, what it did cost takes that place.

No I/O and no clock; for one thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from appliance.domain.errors import QuotaExceeded
from appliance.domain.quotas import EarlierUse, Measure, Period, Quota, QuotaKind, Remaining, Scope
from appliance.domain.usage import ApiKey, TokenUsage, UsageOutcome

ASSUMED_COMPLETION_TOKENS = 1_024
"""What a request that sets no limit is assumed to make, until its end says better."""
IMAGE_TOKENS = 3_025
"""The most that one image costs: 3,025 patches of 28 by 28 pixels (1,540 pixels a side)."""

_BYTES_PER_TOKEN = 4
_IMAGE_START = b'"data:image/'
_COMPLETION_LIMIT = re.compile(rb'"max_(?:completion_|output_)?tokens":(\d{1,12})\b')
_RETRY_CONCURRENCY_S = 1

Subject = tuple[Scope, str]


def estimate_prompt_tokens(body: bytes) -> int:
    """Estimate a prompt's tokens from the body that the engine reads: 4 bytes a token, 3,025 an image."""
    text, images = len(body), 0
    at = body.find(_IMAGE_START)
    while at >= 0:
        end = body.find(b'"', at + 1)
        end = len(body) if end < 0 else end
        images += 1
        text -= end - at
        at = body.find(_IMAGE_START, end)
    return text // _BYTES_PER_TOKEN + images * IMAGE_TOKENS


def estimate_tokens(body: bytes) -> int:
    """Estimate what a request costs at most: its prompt and the completion tokens that it allows.

    A quotation mark inside a JSON string is escaped, so what is found can only be a member; the
    dialects write the engine's body without spaces.
    """
    limits = [int(found) for found in _COMPLETION_LIMIT.findall(body)]
    return estimate_prompt_tokens(body) + (max(limits) if limits else ASSUMED_COMPLETION_TOKENS)


def charge(usage: TokenUsage, *, outcome: UsageOutcome, reserved: int, was_asked: bool) -> int:
    """Return what quotas count for a request that has ended.

    Counts that are unknown are zero, with one exception: who leaves before the engine has said what
    it cost is charged what was reserved. Otherwise leaving early would be a way around every quota.
    """
    known = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    is_unknown = usage.prompt_tokens is None or usage.completion_tokens is None
    if outcome is UsageOutcome.CLIENT_CLOSED and was_asked and is_unknown:
        return max(known, reserved)
    return known


class _Window:
    """Counts of one window, which is the newest one that was seen."""

    __slots__ = ("requests", "start", "tokens")

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.requests = 0
        self.tokens = 0


class _Use:
    """What one subject uses."""

    __slots__ = ("running", "windows")

    def __init__(self) -> None:
        self.running = 0
        self.windows: dict[Period, _Window] = {}

    def window(self, period: Period, start: datetime) -> _Window:
        window = self.windows.get(period)
        if window is None or window.start != start:
            window = self.windows[period] = _Window(start)
        return window


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """A quota, and what its kind says, worked out once."""

    quota: Quota
    measure: Measure
    period: Period | None


class Lease:
    """One admitted request's part of its quotas. Must be ended, once or more."""

    __slots__ = ("_is_over", "_uses", "_windows", "remaining", "reserved")

    def __init__(
        self, *, uses: tuple[_Use, ...], windows: tuple[_Window, ...], reserved: int, remaining: tuple[Remaining, ...]
    ) -> None:
        self._uses = uses
        self._windows = windows
        self._is_over = False
        self.reserved = reserved
        self.remaining = remaining

    def settle(self, tokens: int) -> None:
        """Put what the request did cost in the place of what was reserved; only the first end counts."""
        if not self._over():
            for window in self._windows:
                window.tokens += tokens - self.reserved

    def cancel(self) -> None:
        """Take the request back: it was refused later, and has no record."""
        if not self._over():
            for window in self._windows:
                window.tokens -= self.reserved
                window.requests -= 1

    def _over(self) -> bool:
        was_over, self._is_over = self._is_over, True
        if not was_over:
            for use in self._uses:
                use.running -= 1
        return was_over


class QuotaBook:
    """Admits requests within all quotas of their key, team and legal entity."""

    def __init__(self) -> None:
        self._quotas: dict[Subject, tuple[_Limit, ...]] = {}
        self._uses: dict[Subject, _Use] = {}
        self._known: set[Period] = set()
        self._counted: dict[tuple[str, str, str], tuple[tuple[_Use, ...], tuple[_Window, ...]]] = {}
        self._starts_at: datetime | None = None
        self._starts: dict[Period, datetime] = {}
        self._ends: dict[Period, datetime] = {}

    @property
    def is_limiting(self) -> bool:
        """Whether there is any quota."""
        return bool(self._quotas)

    def missing(self, quotas: Iterable[Quota]) -> tuple[Period, ...]:
        """Return the windows that these quotas need and whose earlier use is not added yet."""
        needed = {quota.kind.period for quota in quotas}
        return tuple(period for period in Period if period in needed and period not in self._known)

    def add_earlier(
        self, period: Period, start: datetime, earlier: Iterable[EarlierUse], entities: dict[str, str]
    ) -> None:
        """Add what was used in the window that began at `start` before this gateway began; once a window."""
        if period in self._known:
            return
        self._known.add(period)
        self._counted.clear()  # windows may take others' places below
        for use in earlier:
            entity = entities.get(use.team)
            subjects: list[Subject] = [(Scope.KEY, use.key_id), (Scope.TEAM, use.team)]
            if entity is not None:
                subjects.append((Scope.ENTITY, entity))
            for subject in subjects:
                have = self._use(subject)
                seen = have.windows.get(period)
                if seen is not None and seen.start > start:
                    continue  # the window that was read has ended meanwhile
                window = have.window(period, start)
                window.requests += use.requests
                window.tokens += use.tokens

    def install(self, quotas: Iterable[Quota]) -> None:
        """Hold these quotas, and no others, from now on."""
        held: dict[Subject, list[_Limit]] = {}
        for quota in quotas:
            held.setdefault((quota.scope, quota.subject), []).append(
                _Limit(quota=quota, measure=quota.kind.measure, period=quota.kind.period)
            )
        self._quotas = {subject: tuple(ones) for subject, ones in held.items()}

    def admit(self, key: ApiKey, *, reserve: int, at: datetime) -> Lease:
        """Count a request and reserve its tokens, or count nothing.

        Raises QuotaExceeded, which names the quota that is exhausted and when it will not be.
        """
        starts = self._starts_of(at)
        counted = self._counted.get((key.key_id, key.team, key.entity))
        uses, windows = counted or self._count_for(key, starts)
        tightest: dict[Measure, tuple[int, _Limit]] = {}
        if self._quotas:
            for subject, use in zip(_subjects(key), uses, strict=True):
                for limit in self._quotas.get(subject, ()):
                    left = self._left(limit, use, reserve=reserve, at=at)
                    if limit.measure not in tightest or left < tightest[limit.measure][0]:
                        tightest[limit.measure] = left, limit
        for use in uses:
            use.running += 1
        for window in windows:
            window.requests += 1
            window.tokens += reserve
        remaining = tuple(self._remaining(limit, left, at) for left, limit in tightest.values())
        return Lease(uses=uses, windows=windows, reserved=reserve, remaining=remaining)

    def _count_for(self, key: ApiKey, starts: dict[Period, datetime]) -> tuple[tuple[_Use, ...], tuple[_Window, ...]]:
        """Return what counts a key's requests, and remember it until windows may change."""
        uses = tuple(self._use(subject) for subject in _subjects(key))
        windows = tuple(use.window(period, start) for use in uses for period, start in starts.items())
        self._counted[key.key_id, key.team, key.entity] = counted = (uses, windows)
        return counted

    def _left(self, limit: _Limit, use: _Use, *, reserve: int, at: datetime) -> int:
        """Return what is left of a quota beside this request. Raises QuotaExceeded."""
        amount, wants = limit.quota.amount, 1
        if limit.period is None:
            used = use.running
        else:
            window = use.window(limit.period, self._starts[limit.period])
            used = window.requests
            if limit.measure is Measure.TOKENS:
                used, wants = window.tokens, reserve
        if used + wants > amount or used >= amount:
            remaining = self._remaining(limit, max(0, amount - used), at)
            raise QuotaExceeded(
                detail=_exceeded(limit.quota, used=used, wants=wants),
                remedy=_remedy(limit.quota, wants=wants, wait_s=remaining.resets_in_s),
                retry_after_s=remaining.resets_in_s,
                remaining=(remaining,),
            )
        return amount - used - wants

    def _remaining(self, limit: _Limit, left: int, at: datetime) -> Remaining:
        wait_s = _RETRY_CONCURRENCY_S
        if limit.period is not None:
            wait_s = max(1, int((self._ends[limit.period] - at).total_seconds()) + 1)
        return Remaining(measure=limit.measure, limit=limit.quota.amount, left=left, resets_in_s=wait_s)

    def _use(self, subject: Subject) -> _Use:
        use = self._uses.get(subject)
        if use is None:
            use = self._uses[subject] = _Use()
        return use

    def _starts_of(self, at: datetime) -> dict[Period, datetime]:
        """Return the windows' beginnings; they are worked out once a minute."""
        minute = at.replace(second=0, microsecond=0)
        if minute != self._starts_at:
            self._starts_at = minute
            self._counted.clear()
            self._starts = {period: period.start(at) for period in Period}
            self._ends = {period: period.end(at) for period in Period}
        return self._starts


def _subjects(key: ApiKey) -> tuple[Subject, ...]:
    return (Scope.KEY, key.key_id), (Scope.TEAM, key.team), (Scope.ENTITY, key.entity)


def _exceeded(quota: Quota, *, used: int, wants: int) -> str:
    whose = {Scope.KEY: "this key", Scope.TEAM: f"team {quota.subject}", Scope.ENTITY: f"entity {quota.subject}"}
    return (
        f"The quota of {quota.amount:,} {quota.kind.value} of {whose[quota.scope]} does not allow this request: "
        f"{used:,} are used or reserved, and it needs {wants:,}."
    )


def _remedy(quota: Quota, *, wants: int, wait_s: int) -> str:
    if wants > quota.amount:
        return "Ask for fewer tokens (max_tokens), or have the quota raised."
    if quota.kind is QuotaKind.CONCURRENCY:
        return "Wait until one of the requests under way has ended."
    return f"Try again in {wait_s} s."
