"""Tries to get out: what the node's programs tried to reach and were refused, folded over time.

The kernel counts since its tables were loaded; a record adds up what was counted since the first
look, over restarts of the daemon and of the node. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from appliance.domain.health import Alert, Severity

OURS: Final = ("leeward-engine", "leeward-gateway")
"""Accounts of the appliance that have nothing to seek outside."""
MOST_DESTINATIONS: Final = 2_000
MANY: Final = "(more destinations than are kept)"
OTHER: Final = "(neither TCP nor UDP)"
ALARM_FOR: Final = timedelta(days=7)
LIMITS: Final = (
    (
        "a call that names no destination and sends nothing is not a try: connect() of a datagram socket is seen at its"
        " first datagram"
    ),
    (
        "accounts without a trap of their own (root and the system's) are seen where the node has a route; a far"
        " destination without one is refused by the kernel before it is counted"
    ),
    (
        "a datagram to an abstract Unix name by sendmsg() is refused by the engine's own namespace, and seen by the"
        " kernel's audit only"
    ),
    "tries of the last seconds before a power cut may be missing; the kernel's audit, where it runs, has them",
)
"""What a record cannot show; it goes wherever the record goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """An account's tries at one destination: `protocol` is tcp, udp, unix or other."""

    account: str
    protocol: str
    destination: str
    count: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same try."""
        return self.account, self.protocol, self.destination


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressReading:
    """One look. `counted` is since the kernel's tables were loaded, `seen` is new since `cursor` was given.

    `missing` names what could not be read, in words for people.
    """

    counted: tuple[Try, ...]
    seen: tuple[Try, ...]
    cursor: str | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """All tries of an account at one destination since counting began."""

    account: str
    protocol: str
    destination: str
    count: int
    first_at: datetime
    last_at: datetime

    @property
    def is_ours(self) -> bool:
        """Whether the appliance itself tried, not another program of the node."""
        return self.account in OURS


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRecord:
    """What is known since `since`; `last_counted` is the newest reading's, to tell what is new in the next."""

    since: datetime
    until: datetime
    longest_gap_s: float
    attempts: tuple[Attempt, ...]
    last_counted: tuple[Try, ...]
    cursor: str | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressReport:
    """The answer to "what has tried to get out?"; `ours` and `others` are numbers of tries, all refused."""

    since: datetime
    until: datetime
    longest_gap_s: float
    ours: int
    others: int
    attempts: tuple[Attempt, ...]
    missing: tuple[str, ...]
    limits: tuple[str, ...] = LIMITS

    @property
    def days(self) -> int:
        """Whole days that were counted."""
        return (self.until - self.since).days

    @property
    def sentence(self) -> str:
        """One line for people."""
        gaps = f"; not counted: {', '.join(self.missing)}" if self.missing else ""
        return f"{self.ours} attempts of the appliance in {self.days} days, since {self.since:%Y-%m-%d %H:%M}Z{gaps}"


def begin(at: datetime) -> EgressRecord:
    """Return the record of a node where nothing has been counted yet."""
    return EgressRecord(
        since=at, until=at, longest_gap_s=0.0, attempts=(), last_counted=(), cursor=None, missing=("nothing yet",)
    )


def fold(record: EgressRecord, reading: EgressReading, at: datetime) -> tuple[EgressRecord, tuple[Attempt, ...]]:
    """Add a reading; returns the new record, and the attempts at destinations that were not known before.

    A count that is lower than before means that the tables were loaded anew, and counts from zero. Where
    a table could not be read, what it counted before is kept for the next comparison.
    """
    before = {each.key: each.count for each in record.last_counted}
    new = [*reading.seen]
    counted = _summed(reading.counted)
    for each in counted:
        known = before.get(each.key, 0)
        new.append(replace(each, count=each.count - known if each.count >= known else each.count))
    attempts = {(a.account, a.protocol, a.destination): a for a in record.attempts}
    fresh: list[Attempt] = []
    for each in new:
        if each.count <= 0:
            continue
        key = each.key
        if key not in attempts and len(attempts) >= MOST_DESTINATIONS:
            key = (each.account, each.protocol, MANY)
        known_attempt = attempts.get(key)
        if known_attempt is None:
            attempts[key] = Attempt(
                account=key[0], protocol=key[1], destination=key[2], count=each.count, first_at=at, last_at=at
            )
            fresh.append(attempts[key])
        else:
            attempts[key] = replace(known_attempt, count=known_attempt.count + each.count, last_at=at)
    kept = _newest(record.last_counted, counted) if reading.missing else counted
    folded = EgressRecord(
        since=record.since,
        until=at,
        longest_gap_s=max(record.longest_gap_s, (at - record.until).total_seconds()),
        attempts=tuple(attempts.values()),
        last_counted=kept,
        cursor=reading.cursor or record.cursor,
        missing=reading.missing,
    )
    return folded, tuple(fresh)


def report(record: EgressRecord) -> EgressReport:
    """Say what a record holds, the appliance's own attempts first."""
    ordered = sorted(record.attempts, key=lambda each: (not each.is_ours, each.account, each.destination))
    return EgressReport(
        since=record.since,
        until=record.until,
        longest_gap_s=record.longest_gap_s,
        ours=sum(each.count for each in ordered if each.is_ours),
        others=sum(each.count for each in ordered if not each.is_ours),
        attempts=tuple(ordered),
        missing=record.missing,
    )


def alerts(record: EgressRecord, now: datetime) -> tuple[Alert, ...]:
    """Return one alarm for each account of the appliance that has tried within a week, and what is not counted."""
    found = []
    for account in OURS:
        tries = [a for a in record.attempts if a.account == account and now - a.last_at < ALARM_FOR]
        if tries:
            newest = max(tries, key=lambda each: each.last_at)
            found.append(
                Alert(
                    code="egress-attempt",
                    severity=Severity.FAIL,
                    title=f"{account} tried to get out",
                    advice=f"Refused {sum(each.count for each in tries)} times, last {newest.protocol} to "
                    f"{newest.destination}. Nothing left the node, but this software must not try: run "
                    "`leeward egress`, keep an evidence export, and ask whoever built the release. The alarm ends a "
                    "week after the last try.",
                    since=min(each.first_at for each in tries),
                )
            )
    if record.missing:
        found.append(
            Alert(
                code="egress-uncounted",
                severity=Severity.WARN,
                title="Tries to get out are not counted everywhere",
                advice=f"Not read: {', '.join(record.missing)}. Run `leeward provision`, which loads the tables.",
                since=None,
            )
        )
    return tuple(found)


def _summed(tries: Iterable[Try]) -> tuple[Try, ...]:
    """Make one of what two tables counted for the same account and destination."""
    sums: dict[tuple[str, str, str], Try] = {}
    for each in tries:
        known = sums.get(each.key)
        sums[each.key] = each if known is None else replace(each, count=known.count + each.count)
    return tuple(sums.values())


def _newest(before: Iterable[Try], now: Iterable[Try]) -> tuple[Try, ...]:
    return tuple({**{each.key: each for each in before}, **{each.key: each for each in now}}.values())
