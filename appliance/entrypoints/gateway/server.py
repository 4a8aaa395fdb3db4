"""The HTTP server around the application: uvicorn, as this gateway wants it."""

from __future__ import annotations

from pathlib import Path

import uvicorn

from appliance.domain.errors import ConfigInvalid
from appliance.entrypoints.gateway.application import GatewayApplication
from appliance.entrypoints.gateway.caller import CallerConnection

GRACE_S = 30
"""How long requests under way may go on after SIGTERM."""


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
        backlog=1_024,
    )
    return uvicorn.Server(config)
