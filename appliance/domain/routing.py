"""Which engine a request goes to, when there are several that could take it.

An engine that has seen the beginning of a prompt answers sooner, because it keeps what it made of it
(vLLM's prefix cache). So requests that begin alike have one favourite among the engines, found by
rendezvous hashing: whichever engines come and go, the others keep their favourites. The favourite is
taken unless it is busier than the least busy engine by more than `SLACK` of its slots; a popular
beginning then spreads over the engines instead of queuing behind itself.

Pure: no I/O and no clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol, TypeVar

SLACK: Final = 0.125
"""How much busier than the least busy engine the favourite may be, as a share of its slots."""
PART_BYTES: Final = 1_024
"""How much is looked at of the prompt's beginning, and as much of the end of the first thing that a user says."""
_HEAD_BYTES: Final = 64 * 1024
_PROMPT: Final = re.compile(rb'"(?:messages|input|prompt|system)":')
_OVER: Final = re.compile(rb"},\{|}]")
_USER: Final = b'"role":"user"'


class Candidate(Protocol):
    """An engine that could take a request now: how many it has, and how many it takes at a time."""

    @property
    def name(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def slots(self) -> int: ...


C = TypeVar("C", bound=Candidate)


def affinity_of(team: str, body: bytes) -> bytes:
    """Return what requests have in common whose prompts begin alike (8 bytes); teams share no prefix cache.

    Of a conversation that is all up to the end of the first message of a user, whatever has been said
    since. `body` is JSON without spaces between its parts.
    """
    head = body[:_HEAD_BYTES]
    begun = _PROMPT.search(head)
    start = begun.start() if begun else 0
    user = head.find(_USER, start)
    end = start + PART_BYTES
    if user >= 0:
        over = _OVER.search(body, user, user + _HEAD_BYTES)
        end = over.start() if over else user
    first, last = body[start : min(end, start + PART_BYTES)], body[max(start, end - PART_BYTES) : end]
    return _digest(b"%b\0%b%b" % (team.encode(), first, last))


def choose(candidates: Sequence[C], affinity: bytes) -> C:
    """Return the engine that a request goes to. `candidates` is not empty."""
    least = min(candidates, key=_load)
    favourite = max(candidates, key=lambda one: _digest(affinity + one.name.encode()))
    is_near = _load(favourite) - _load(least) <= SLACK and favourite.in_flight < favourite.slots
    return favourite if is_near else least


def _load(one: Candidate) -> float:
    return one.in_flight / one.slots


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=8).digest()


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
