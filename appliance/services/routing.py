"""What is known of each engine, and which of them takes the next request.

UP ──► DOWN   nobody listens, or three looks in a row had no answer
   ◄──        a look is answered
An engine is DRAINED while an administrator says so: it finishes what it has and gets nothing new.

A circuit breaker spares an engine that answers looks and yet loses requests: after `BREAK_AFTER` in
a row it gets none for a while, then one; when that is answered whole, the breaker closes, else the
while doubles. A breaker never leaves the node without an engine: if it is all that stands against a
request, it is ignored. What an engine answers, an error too, is an answer: else a tenant could take
an engine from everybody with a request that it fails on.

No I/O; times are given, in seconds of any steady clock. For one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from appliance.domain.routing import choose

BREAK_AFTER: Final = 3
SPARED_S: Final = 5.0
MOST_SPARED_S: Final = 60.0
DOWN_AFTER: Final = 3


class Replica:
    """One engine: how many requests it may have, how many it has, and how it has behaved."""

    __slots__ = (
        "_lost_in_a_row", "_spared_s", "failures", "in_flight", "is_drained", "is_up", "name", "on_trial", "slots",
        "spared_until", "unanswered",
    )  # fmt: skip

    def __init__(self, *, name: str, slots: int) -> None:
        self.name = name
        self.slots = slots
        self.in_flight = 0
        self.failures = 0
        self.is_up = True  # until it is seen not to be
        self.is_drained = False
        self.unanswered = 0
        self.spared_until: float | None = None
        self.on_trial = False
        self._lost_in_a_row = 0
        self._spared_s = SPARED_S

    @property
    def takes(self) -> bool:
        """Whether it gets requests, its breaker aside."""
        return self.is_up and not self.is_drained

    def is_spared(self, now: float) -> bool:
        """Whether its breaker keeps requests away now."""
        return self.spared_until is not None and (now < self.spared_until or self.on_trial)

    def begin(self) -> None:
        """Count a request that goes to it."""
        self.in_flight += 1
        self.on_trial = self.spared_until is not None

    def answered(self) -> None:
        """Take note that it answered a request whole, with whatever."""
        self.in_flight -= 1
        self._lost_in_a_row = 0
        self._spared_s = SPARED_S
        self.spared_until = None
        self.on_trial = False

    def left(self) -> None:
        """Take note that a request ended of which nothing is to be learned: its caller went."""
        self.in_flight -= 1
        self.on_trial = False

    def lost(self, now: float) -> None:
        """Take note that it lost a request, or would not take it."""
        self.in_flight -= 1
        self.failures += 1
        self._lost_in_a_row += 1
        self.on_trial = False
        if self.spared_until is not None:
            if now < self.spared_until:
                return  # one of those that were under way when it broke
            self._spared_s = min(2 * self._spared_s, MOST_SPARED_S)
        if self._lost_in_a_row >= BREAK_AFTER:
            self.spared_until = now + self._spared_s


class Router:
    """All engines behind one gateway. `changed` is called with the slots that there are, when that changes."""

    def __init__(self, replicas: Iterable[Replica], *, changed: Callable[[int], None] = lambda _slots: None) -> None:
        self.replicas = tuple(replicas)
        self._changed = changed
        self._slots = self.slots

    @property
    def slots(self) -> int:
        """How many requests the engines take that get any; of all of them while none does."""
        return sum(one.slots for one in self.replicas if one.takes) or sum(one.slots for one in self.replicas)

    def pick(self, affinity: Callable[[], bytes], now: float, *, without: Collection[str] = ()) -> Replica | None:
        """Return the engine for a request and count it there; `None` if there is none. It must be told how it ended."""
        open_ = [one for one in self.replicas if one.takes and one.name not in without]
        usable = [one for one in open_ if not one.is_spared(now)] or open_
        if not usable:
            return None
        replica = usable[0] if len(usable) == 1 else choose(usable, affinity())
        replica.begin()
        return replica

    def looked(self, replica: Replica, *, is_well: bool) -> None:
        """Take note of a look at an engine; DOWN_AFTER without an answer take it out, one with brings it back."""
        replica.unanswered = 0 if is_well else replica.unanswered + 1
        self._set_up(replica, is_up=is_well or (replica.is_up and replica.unanswered < DOWN_AFTER))

    def refused(self, replica: Replica) -> None:
        """Take note that nobody listens where an engine ought to."""
        self._set_up(replica, is_up=False)

    def drain(self, names: Collection[str]) -> None:
        """Drain these engines, and no others."""
        for one in self.replicas:
            one.is_drained = one.name in names
        self._tell()

    def _set_up(self, replica: Replica, *, is_up: bool) -> None:
        replica.is_up = is_up
        self._tell()

    def _tell(self) -> None:
        slots = self.slots
        if slots != self._slots:
            self._slots = slots
            self._changed(slots)
