"""The seam between the relay and an API's way of speaking.

A dialect is one path of the API. It judges a caller's body and writes what the engine reads
(`EngineRequest`), says how the answer is metered (`Meter` for a stream, `tally_of` for a whole
one) and in what shape the gateway's own errors are told. Everything else (keys, room, durable
admission, relay, abort, settlement) is the same for all of them: see `route` and `exchange`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from appliance.domain.usage import ApiKey
from appliance.entrypoints.gateway.answers import Header
from appliance.entrypoints.gateway.salt import CacheSalt
from appliance.services.metering import Tally
from appliance.services.request_body import ChatLimits, JudgedRequest


class Meter(Protocol):
    """Feeds on the engine's stream and gives the caller's; `tally` is what is known so far.

    It sets `tally.done` with the last event that a caller waits for, `tally.failed` with an error
    event. Pure; `feed` and `finish` raise StreamBroken.
    """

    @property
    def tally(self) -> Tally: ...

    def feed(self, received: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One judged request: what the engine reads, and how its answer is metered.

    `path` is the engine's. `headers` go with the caller's answer. `meter` is called once, for a
    stream; `tally_of` once, for a whole answer with status 200, and `told` gives the caller's answer.
    """

    path: str
    body: bytes = field(repr=False)
    model: str
    stream: bool
    meter: Callable[[], Meter]
    tally_of: Callable[[bytes], Tally]
    told: Callable[[bytes], bytes] = bytes
    headers: tuple[Header, ...] = ()


class Dialect(Protocol):
    """One path of the API."""

    @property
    def path(self) -> str:
        """The path that callers ask, which is also the record's `endpoint`."""
        ...

    @property
    def body_bytes(self) -> int:
        """The longest body that is read."""
        ...

    def read(self, body: bytes, key: ApiKey) -> EngineRequest:
        """Judge a body. Raises ChatRefused."""
        ...

    def error(self, status: int, message: str, *, code: str, param: str | None = None) -> bytes:
        """Write an error as the body of an answer with that status."""
        ...

    def refused(self, status: int, body: bytes) -> bytes:
        """Write the engine's own refusal, whose body is given, in the shape of this dialect."""
        ...

    def broken_off(self, message: str, *, code: str) -> bytes:
        """Write the end of a stream that broke."""
        ...


class Judge(Protocol):
    """Reads a body and writes what the engine gets. Raises ChatRefused."""

    def __call__(self, body: bytes, *, served_model: str, cache_salt: str, limits: ChatLimits) -> JudgedRequest: ...


class ServedDialect:
    """What all dialects of one gateway share; each names its path, its judge and its metering."""

    path: ClassVar[str]
    judge: Judge
    tally_of: Callable[[bytes], Tally]

    def __init__(self, *, served_model: str, limits: ChatLimits, salt: CacheSalt) -> None:
        self._served_model = served_model
        self._limits = limits
        self._salt = salt

    @property
    def body_bytes(self) -> int:
        return self._limits.body_bytes

    def read(self, body: bytes, key: ApiKey) -> EngineRequest:
        judged = self.judge(
            body, served_model=self._served_model, cache_salt=self._salt.of(key.team), limits=self._limits
        )
        effort = judged.reasoning_effort
        return EngineRequest(
            path=self.path,
            body=judged.body,
            model=self._served_model,
            stream=judged.stream,
            meter=lambda: self.meter(judged),
            tally_of=self.tally_of,
            told=self.told,
            headers=() if effort is None else ((b"x-leeward-reasoning-effort", effort.encode()),),
        )

    def meter(self, judged: JudgedRequest) -> Meter:
        """Make the meter of one stream."""
        raise NotImplementedError

    def told(self, answer: bytes) -> bytes:
        """Write a whole answer as the caller gets it."""
        return answer
