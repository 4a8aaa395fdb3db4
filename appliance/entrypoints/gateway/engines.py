"""The engines behind this gateway: one, or several that serve the same model.

A request goes to one of them (`services.routing`), and to another only while none has had a byte of
it: what an engine may have begun is not repeated. Each engine is looked at once a second.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from appliance.adapters.host.engine_board import StandingsFile
from appliance.domain.errors import ConfigInvalid
from appliance.domain.routing import EngineStanding
from appliance.entrypoints.gateway.exposition import EngineState
from appliance.entrypoints.gateway.upstream import (
    Door,
    EngineClient,
    EngineConnection,
    EngineUnreachable,
    tls_door,
    unix_door,
)
from appliance.gateway_settings import REMEDY, EngineSettings
from appliance.services.routing import Replica, Router

log = structlog.get_logger()

LOOK_EACH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlace:
    """One engine: what it is called, where it is, and how many requests it takes at a time."""

    name: str
    door: Door
    slots: int


class Held:
    """A connection to an engine that works on one request. `over` is to be called once."""

    __slots__ = ("_replica", "_time", "connection")

    def __init__(self, connection: EngineConnection, replica: Replica, time: Callable[[], float]) -> None:
        self.connection = connection
        self._replica = replica
        self._time = time

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._replica.name

    @property
    def is_down(self) -> bool:
        """Whether the engine answers nobody any more."""
        return not self._replica.is_up

    def over(self, *, answered: bool, lost: bool) -> None:
        """Say how it ended: with a whole answer, lost, or neither, because the caller went."""
        if lost:
            self._replica.lost(self._time())
        elif answered:
            self._replica.answered()
        else:
            self._replica.left()


class Engines:
    """Connections to all engines. Make and use it inside the event loop; `changed` hears of other numbers of slots."""

    def __init__(
        self,
        places: Iterable[EnginePlace],
        *,
        drained: Path | None = None,
        standings: Path | None = None,
        changed: Callable[[int], None],
    ) -> None:
        found = [(Replica(name=place.name, slots=place.slots), EngineClient(place.door)) for place in places]
        self._clients = dict(found)
        self._router = Router([replica for replica, _ in found], changed=changed)
        self._drained = drained
        self._file = None if standings is None else StandingsFile(standings)
        self._time = asyncio.get_running_loop().time
        self._looking: asyncio.Task[None] | None = None
        self.retries = 0

    async def connect(self, affinity: Callable[[], bytes]) -> Held:
        """Return a connection to the engine that a request goes to. Raises EngineUnreachable if there is none."""
        tried: set[str] = set()
        has_looked = False
        while True:
            replica = self._router.pick(affinity, self._time(), without=tried)
            if replica is None:
                if tried or has_looked:
                    raise EngineUnreachable("no engine takes requests")
                has_looked = True
                await self._look_again()
                continue
            try:
                connection = await self._clients[replica].connect()
            except EngineUnreachable as problem:
                replica.lost(self._time())
                self._refused(replica, problem)
                tried.add(replica.name)
            except asyncio.CancelledError:
                replica.left()
                raise
            else:
                self.retries += bool(tried)
                return Held(connection, replica, self._time)

    async def follow(self) -> None:
        """Look at every engine each second, and at who was drained, for ever."""
        async with asyncio.TaskGroup() as group:
            for replica in self._clients:
                group.create_task(self._follow(replica))
            while True:
                self.look_for_drained()
                self._tell()
                await asyncio.sleep(LOOK_EACH_S)

    def look_for_drained(self) -> None:
        """Drain those engines of which an administrator has said so."""
        if self._drained is None:
            return
        try:
            names = {one.name for one in self._drained.iterdir()}
        except FileNotFoundError:
            names = set()
        except OSError as problem:
            log.error("drained_not_readable", reason=problem.strerror)  # noqa: TRY400  the reason says it all
            return
        before = {one.name for one in self._clients if one.is_drained}
        self._router.drain(names)
        after = {one.name for one in self._clients if one.is_drained}
        for name in sorted(before ^ after):
            log.info("engine_drained" if name in after else "engine_takes_requests_again", engine=name)

    def sweep(self) -> None:
        """Close connections that have been idle for too long."""
        for client in self._clients.values():
            client.sweep()

    def close(self) -> None:
        """Close what is idle."""
        for client in self._clients.values():
            client.close()

    async def is_healthy(self) -> bool:
        """Whether an engine that gets requests says that it lives."""
        asked = [client.is_healthy() for replica, client in self._clients.items() if not replica.is_drained]
        return any(await asyncio.gather(*asked))

    async def model(self, name: str) -> dict[str, Any] | None:
        """Return an engine's description of the served model; `None` if it has none. Raises EngineUnreachable."""
        problem = EngineUnreachable("no engine takes requests")
        for replica, client in sorted(self._clients.items(), key=lambda pair: not pair[0].takes):
            del replica
            try:
                return await client.model(name)
            except EngineUnreachable as unreachable:
                problem = unreachable
        raise problem

    def standings(self) -> tuple[EngineStanding, ...]:
        """Return how each engine stands."""
        now = self._time()
        return tuple(
            EngineStanding(
                name=one.name,
                is_up=one.is_up,
                is_drained=one.is_drained,
                is_spared=one.is_spared(now),
                in_flight=one.in_flight,
                failures=one.failures,
            )
            for one in self._clients
        )

    async def states(self) -> tuple[EngineState, ...]:
        """Ask each engine what it says of itself, and return that with how it stands."""
        pages = await asyncio.gather(*(client.page("/metrics") for client in self._clients.values()))
        return tuple(
            EngineState(standing=replace(one, is_up=one.is_up and page is not None), page=page or "")
            for one, page in zip(self.standings(), pages, strict=True)
        )

    def _tell(self) -> None:
        if self._file is None:
            return
        try:
            self._file.write(self.standings())
        except OSError as problem:
            log.error("standings_not_written", reason=problem.strerror)  # noqa: TRY400  the reason says it all
            self._file = None

    async def _follow(self, replica: Replica) -> None:
        while True:
            await asyncio.sleep(LOOK_EACH_S)
            await self._look(replica)

    async def _look(self, replica: Replica) -> None:
        was_up = replica.is_up
        self._router.looked(replica, is_well=await self._clients[replica].is_healthy())
        if replica.is_up and not was_up:
            log.info("engine_up", engine=replica.name)
        elif was_up and not replica.is_up:
            log.error("engine_down", engine=replica.name, reason="it does not answer")

    async def _look_again(self) -> None:
        """Look at the engines that are down, once for all who ask meanwhile."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_at_those_down())
        await asyncio.shield(self._looking)

    async def _look_at_those_down(self) -> None:
        down = [one for one in self._clients if not one.is_up and not one.is_drained]
        await asyncio.gather(*(self._look(one) for one in down))

    def _refused(self, replica: Replica, problem: EngineUnreachable) -> None:
        if replica.is_up:
            log.error("engine_down", engine=replica.name, reason=str(problem))
        self._router.refused(replica)


def place_of(engine: EngineSettings, *, slots: int, tls: Path) -> EnginePlace:
    """Say where an engine of the site's settings is; `tls` is the folder of the gateway's identity towards others.

    Raises ConfigInvalid where that identity cannot be read.
    """
    slots = engine.slots or slots
    if engine.socket is not None:
        return EnginePlace(name=engine.name, door=unix_door(engine.socket), slots=slots)
    try:
        context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        context.load_cert_chain(tls / "client.crt", tls / "client.key")
    except (OSError, ssl.SSLError) as problem:
        raise ConfigInvalid(
            detail=f"The gateway has no identity for the engine {engine.name}: {tls}: {problem}.", remedy=REMEDY
        ) from problem
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    name = engine.tls_name or engine.name
    door = tls_door(str(engine.address), engine.port, context=context, name=name)
    return EnginePlace(name=engine.name, door=door, slots=slots)
