"""The door of this node's engine for another node's gateway: `python -m appliance.entrypoints.engine_door`.

It takes TLS 1.3 connections from programs whose certificate bears one of the names in `[door] callers`,
and carries bytes between them and the engine's socket. It reads nothing of what it carries, keeps
nothing and counts nothing: the gateway that asks keeps the records. When a caller goes, its connection
to the engine goes at once, so that the engine stops working on what nobody waits for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import cast

import structlog
import uvloop

from appliance.config import Settings
from appliance.domain.errors import ConfigInvalid, LeewardError
from appliance.gateway_settings import REMEDY, DoorSettings

log = structlog.get_logger()

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd puts the certificate and the key that the unit loads; the folder of the settings without it."""
MOST_CONNECTIONS = 2_048
ANYWHERE = "0.0.0.0"  # noqa: S104  it serves the site's network; TLS, names and the firewall guard it
_HANDSHAKE_S = 10.0
_CONNECT_S = 5.0


class Side(asyncio.Protocol):
    """One of two connections that are carried into one another."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # after what it still has to write


class CallerSide(Side):
    """A gateway's connection."""

    def __init__(self, door: EngineDoor) -> None:
        super().__init__()
        self._door = door
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.open_callers.add(self)
        names = names_of(transport.get_extra_info("peercert"))
        if len(self._door.open_callers) > MOST_CONNECTIONS or names.isdisjoint(self._door.callers):
            log.warning("caller_refused", names=sorted(names), open=len(self._door.open_callers))
            self.abort()
            return
        cast("asyncio.Transport", transport).pause_reading()
        self._opening = asyncio.get_running_loop().create_task(self._open())

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.transport = None
        self._door.open_callers.discard(self)
        if self._opening is not None:
            self._opening.cancel()
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    async def _open(self) -> None:
        engine = Side()
        try:
            async with asyncio.timeout(_CONNECT_S):
                await asyncio.get_running_loop().create_unix_connection(lambda: engine, str(self._door.socket))
        except (OSError, TimeoutError) as problem:
            log.error("engine_unreachable", reason=str(problem))  # noqa: TRY400  the reason says it all
            self.abort()
            return
        self.other, engine.other = engine, self
        if self.transport is not None:
            self.transport.resume_reading()
        elif engine.transport is not None:
            engine.transport.abort()


class EngineDoor:
    """The door of one engine."""

    def __init__(self, socket: Path, *, callers: frozenset[str]) -> None:
        self.socket = socket
        self.callers = callers
        self.open_callers: set[CallerSide] = set()

    async def listen(self, host: str, port: int, context: ssl.SSLContext) -> asyncio.Server:
        """Take connections until the server is closed. Raises OSError."""
        return await asyncio.get_running_loop().create_server(
            lambda: CallerSide(self), host, port, ssl=context, ssl_handshake_timeout=_HANDSHAKE_S, backlog=1_024
        )

    def close(self) -> None:
        """End every connection."""
        for caller in tuple(self.open_callers):
            caller.abort()


def names_of(certificate: dict[str, object] | None) -> frozenset[str]:
    """Return the DNS names in a certificate that was checked."""
    found = cast("tuple[tuple[str, str], ...]", (certificate or {}).get("subjectAltName", ()))
    return frozenset(name for kind, name in found if kind == "DNS")


def door_context(folder: Path) -> ssl.SSLContext:
    """Make the door's side of TLS from `ca.crt`, `server.crt` and `server.key`. Raises ConfigInvalid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        context.load_verify_locations(folder / "ca.crt")
    except (OSError, ssl.SSLError) as problem:
        raise ConfigInvalid(
            detail=f"The engine's door has no identity: {folder}: {problem}.", remedy=REMEDY
        ) from problem
    return context


async def serve(settings: DoorSettings, *, socket: Path, identity: Path) -> None:
    """Serve until SIGTERM. Raises ConfigInvalid."""
    context = door_context(identity)
    door = EngineDoor(socket, callers=frozenset(settings.callers))
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    try:
        server = await door.listen(ANYWHERE, settings.port, context)
    except OSError as problem:
        raise ConfigInvalid(
            detail=f"Port {settings.port} cannot be listened on: {problem}.", remedy=REMEDY
        ) from problem
    log.info("door_open", port=settings.port, callers=sorted(door.callers))
    await over.wait()
    server.close()
    door.close()


def main() -> None:
    """Serve the door that the settings name."""
    structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()])
    try:
        settings = Settings.load()
        if not settings.door.callers:
            raise ConfigInvalid(detail="[door] names no callers.", remedy=REMEDY)
        identity = Path(os.environ.get(CREDENTIALS) or settings.paths.engine_tls)
        uvloop.run(serve(settings.door, socket=settings.paths.engine_socket, identity=identity))
    except LeewardError as problem:
        log.error("door_ended", code=problem.code, detail=problem.detail, remedy=problem.remedy)  # noqa: TRY400  it is foreseen
        sys.exit(problem.exit_status)


if __name__ == "__main__":
    main()
