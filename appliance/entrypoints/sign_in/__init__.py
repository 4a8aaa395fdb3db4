"""`leeward-sign-in`: asks the site who somebody is, and the management daemon for a key.

Runs under an account of its own, apart from both: the gateway, which serves the network, has no way
out of the node; the daemon, which may make keys, talks to no network. This process may ask the
site's provider and directory and has no key, no ledger and no engine. The gateway hands requests on
to its Unix socket.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click
import structlog
import uvicorn

from appliance.config import ROOT_VARIABLE, Settings, read_sign_in
from appliance.domain.errors import ConfigInvalid, LeewardError
from appliance.entrypoints.sign_in.application import create_app


@click.command()
@click.option("--root", type=click.Path(path_type=Path), envvar=ROOT_VARIABLE, help="Folder below which paths lie.")
def main(root: Path | None) -> None:
    """Serve sign-in until SIGTERM. A change of /etc/leeward/sign-in.toml holds after a restart."""
    configure_logs()
    try:
        paths = Settings.load(root).paths
        settings = read_sign_in(paths.sign_in_file)
        if settings.oidc is None and settings.ldap is None:
            raise ConfigInvalid(
                detail=f"{paths.sign_in_file} names neither a provider nor a directory, or is not there.",
                remedy="Write it (docs: sign-in.md), or disable leeward-sign-in.",
            )
        app = create_app(settings, management=paths.management_socket)
    except LeewardError as error:
        structlog.get_logger().error("sign_in_ended", code=error.code, detail=error.detail, remedy=error.remedy)
        sys.exit(error.exit_status)
    paths.sign_in_socket.parent.mkdir(parents=True, exist_ok=True)
    paths.sign_in_socket.unlink(missing_ok=True)
    uvicorn.run(
        app,
        uds=str(paths.sign_in_socket),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=64,
        timeout_graceful_shutdown=10,
    )


def configure_logs() -> None:
    """Send logs to standard error as JSON lines; no token and no password is in one."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
