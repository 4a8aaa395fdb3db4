"""Which engine a request goes to, when there are several that could take it.

An engine that has seen the beginning of a prompt answers sooner, because it keeps what it made of it
(vLLM's prefix cache). So requests that begin alike have one favourite among the engines, found by
rendezvous hashing: whichever engines come and go, the others keep their favourites. The favourite is
taken unless it is busier than the least busy engine by more than `SLACK` of its slots; a popular
beginning then spreads over the engines instead of queuing behind itself.

Pure: no I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

SLACK: Final = 0.125
"""How much busier than the least busy engine the favourite may be, as a share of its slots."""
PART_BYTES: Final = 1_024
"""How much is looked at of the prompt's beginning, and as much of the end of the first thing that a user says."""
_HEAD_BYTES: Final = 64 * 1024
_PROMPTS: Final = (b'"messages":', b'"input":', b'"prompt":', b'"system":')
_USER: Final = b'"role":"user"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An engine that could take a request now."""

    name: str
    in_flight: int
    slots: int

    @property
    def load(self) -> float:
        """How busy it is: 1 when every slot is taken."""
        return self.in_flight / self.slots


def affinity_of(team: str, body: bytes) -> bytes:
    """Return what requests have in common whose prompts begin alike; teams share no prefix cache.

    Of a conversation that is all up to the end of the first message of a user, whatever has been said
    since. `body` is JSON without spaces between its parts.
    """
    found = [at for name in _PROMPTS if (at := body.find(name, 0, _HEAD_BYTES)) >= 0]
    start = min(found, default=0)
    user = body.find(_USER, start, _HEAD_BYTES)
    end = start + PART_BYTES
    if user >= 0:
        ends = [at for mark in (b"},{", b"}]") if (at := body.find(mark, user, user + _HEAD_BYTES)) >= 0]
        end = min(ends, default=user)
    return b"%b\0%b%b" % (
        team.encode(),
        body[start : min(end, start + PART_BYTES)],
        body[max(start, end - PART_BYTES) : end],
    )


def choose(candidates: Sequence[Candidate], affinity: bytes) -> Candidate:
    """Return the engine that a request goes to. `candidates` is not empty."""
    if len(candidates) == 1:
        return candidates[0]
    least = min(candidates, key=lambda one: one.load)
    favourite = max(candidates, key=lambda one: _rank(one.name, affinity))
    is_near = favourite.load - least.load <= SLACK and favourite.in_flight < favourite.slots
    return favourite if is_near else least


def _rank(name: str, affinity: bytes) -> bytes:
    return blake2b(affinity, digest_size=8, key=name.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStanding:
    """How one engine stands, as the gateway saw it last."""

    name: str
    is_up: bool
    is_drained: bool
    is_spared: bool
    in_flight: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineView:
    """One engine of the settings. `standing` is `None` where no gateway has told of late."""

    name: str
    place: str
    is_drained: bool
    standing: EngineStanding | None
