"""The HTTP server around the application: uvicorn, as this gateway wants it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from appliance.domain.errors import ConfigInvalid
from appliance.entrypoints.gateway.application import GatewayApplication
from appliance.entrypoints.gateway.caller import CallerConnection
from appliance.entrypoints.gateway.tls import TlsServer, listeners_on

log = structlog.get_logger()

GRACE_S = 30
"""How long requests under way may go on after SIGTERM."""

_BACKLOG = 1_024


class GatewayServer(uvicorn.Server):
    """uvicorn's server with the encryption of `tls`; without a certificate, which is for tests, with none."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        config = self.config
        if config.ssl is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        try:
            listeners = listeners_on(config.host, config.port, backlog=_BACKLOG)
        except OSError as problem:
            log.error("address_not_free", host=config.host, port=config.port, reason=str(problem))  # noqa: TRY400  the reason says it all
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)
        self.servers = [TlsServer(listeners, config.ssl, self._connection)]  # type: ignore[list-item]  # does what uvicorn asks of one
        self.started = True

    def _connection(self) -> CallerConnection:
        return CallerConnection(self.config, self.server_state, self.lifespan.state)


def make_server(
    application: GatewayApplication, *, host: str, port: int, tls_cert: Path | None, tls_key: Path | None
) -> uvicorn.Server:
    """Make the server; raises ConfigInvalid if the certificate cannot be read. Plain HTTP without one is for tests."""
    for path in (tls_cert, tls_key):
        if path is not None and not path.is_file():
            raise ConfigInvalid(
                detail=f"There is no readable file at {path}.",
                remedy="Run `leeward provision`, which makes the gateway's certificate, or install the site's own.",
            )
    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        loop="uvloop",
        http=CallerConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        backlog=_BACKLOG,
    )
    return GatewayServer(config)
