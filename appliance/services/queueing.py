"""Who goes next to the engine, when more want to than it takes at a time.

The engine has so many slots. While one is free, whoever comes takes it. Else each team waits in a
line of its own, and a slot that becomes free goes to the team that has the fewest requests in the
engine for its weight (ties: who was served longest ago). So a team with a thousand requests waits
behind itself, and a team that comes with one gets the next slot, whatever stands in the other lines.

The lines are bounded together, in requests and in bytes of bodies. When they are full, the newest
request of the longest line (again for its weight) makes room, so that nobody can fill them for the others.

No I/O and no clock; for one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto


class Standing(Enum):
    """WAITING → GRANTED → LEFT, or WAITING → LEFT (gave up), or WAITING → DROPPED (made room)."""

    WAITING = auto()
    GRANTED = auto()
    DROPPED = auto()
    LEFT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How many requests the engine takes at a time, and what may wait before it."""

    slots: int = 256
    waiting: int = 1_024
    waiting_bytes: int = 512 * 1024 * 1024


class _Line:
    """One team's requests: how many are in the engine, and which wait."""

    __slots__ = ("running", "served", "waiting", "weight")

    def __init__(self) -> None:
        self.running = 0
        self.served = 0
        self.weight = 1
        self.waiting: deque[Turn] = deque()

    @property
    def share(self) -> tuple[float, int]:
        """What is compared when a slot becomes free; the least goes next."""
        return self.running / self.weight, self.served

    @property
    def length(self) -> float:
        """What is compared when there is no more room; the most makes room."""
        return len(self.waiting) / self.weight


class Turn:
    """One request's place. `wake` is called when it is granted or dropped after it had to wait."""

    __slots__ = ("line", "size_bytes", "standing", "team", "wake")

    def __init__(self, *, team: str, line: _Line, size_bytes: int, wake: Callable[[], None]) -> None:
        self.team = team
        self.line = line
        self.size_bytes = size_bytes
        self.wake = wake
        self.standing = Standing.WAITING


class FairQueue:
    """Slots of the engine, and the lines before it."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._slots = self._free = limits.slots
        self._lines: dict[str, _Line] = {}
        self._waiting = 0
        self._waiting_bytes = 0
        self._grants = 0

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._waiting

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of bodies wait."""
        return self._waiting_bytes

    @property
    def slots(self) -> int:
        """How many requests go to the engine at a time."""
        return self._slots

    @property
    def running(self) -> int:
        """How many have a slot."""
        return self._slots - self._free

    def resize(self, slots: int) -> None:
        """Let another number of requests go to the engine at a time; those that have a slot keep it."""
        self._free += slots - self._slots
        self._slots = slots
        while self._free > 0 and self._waiting:
            self._call_next()

    def enter(self, team: str, *, weight: int, size_bytes: int, wake: Callable[[], None]) -> Turn:
        """Take a slot or a place in the team's line; see `standing` of what is returned. It must `leave`."""
        line = self._lines.get(team)
        if line is None:
            line = self._lines[team] = _Line()
        line.weight = weight
        turn = Turn(team=team, line=line, size_bytes=size_bytes, wake=wake)
        if self._free > 0:
            self._grant(turn)
            return turn
        line.waiting.append(turn)
        self._count(turn, 1)
        while self._waiting > self._limits.waiting or self._waiting_bytes > self._limits.waiting_bytes:
            self._drop_one(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Give up a slot or a place; once or more."""
        standing, turn.standing = turn.standing, Standing.LEFT
        if standing is Standing.WAITING:
            turn.line.waiting.remove(turn)
            self._count(turn, -1)
        elif standing is Standing.GRANTED:
            turn.line.running -= 1
            self._free += 1
            if self._free > 0:
                self._call_next()
        self._forget(turn)

    def _grant(self, turn: Turn) -> None:
        self._free -= 1
        self._grants += 1
        turn.standing = Standing.GRANTED
        turn.line.running += 1
        turn.line.served = self._grants

    def _call_next(self) -> None:
        lines = [line for line in self._lines.values() if line.waiting]
        if not lines:
            return
        turn = min(lines, key=lambda line: line.share).waiting.popleft()
        self._count(turn, -1)
        self._grant(turn)
        turn.wake()

    def _drop_one(self, newcomer: Turn) -> None:
        longest = max((line for line in self._lines.values() if line.waiting), key=lambda line: line.length)
        turn = longest.waiting.pop()
        self._count(turn, -1)
        turn.standing = Standing.DROPPED
        if turn is not newcomer:
            turn.wake()
        self._forget(turn)

    def _count(self, turn: Turn, sign: int) -> None:
        self._waiting += sign
        self._waiting_bytes += sign * turn.size_bytes

    def _forget(self, turn: Turn) -> None:
        if not turn.line.running and not turn.line.waiting and self._lines.get(turn.team) is turn.line:
            del self._lines[turn.team]
