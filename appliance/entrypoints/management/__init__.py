"""`leewardd`: the management daemon, the only process of Leeward that changes the node."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click
import structlog

from appliance.config import ROOT_VARIABLE, Settings
from appliance.domain.errors import LeewardError
from appliance.entrypoints.management.api import create_app
from appliance.entrypoints.management.serving import alone, serve
from appliance.wiring import management_of

LOCK_NAME = "leewardd.lock"


@click.command()
@click.option(
    "--root", type=click.Path(path_type=Path), envvar=ROOT_VARIABLE, help="Folder below which all paths lie (tests)."
)
def main(root: Path | None) -> None:
    """Serve the management API until SIGTERM; an unfinished operation is resumed."""
    configure_logs()
    try:
        settings = Settings.load(root)
        paths = settings.paths
        with alone(paths.database.parent / LOCK_NAME), management_of(settings) as management:
            serve(create_app(management), management.operations, paths.management_socket)
    except LeewardError as error:
        structlog.get_logger().error("daemon_ended", code=error.code, detail=error.detail, remedy=error.remedy)
        sys.exit(error.exit_status)


def configure_logs() -> None:
    """Send logs to standard error as JSON lines, for the journal."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
