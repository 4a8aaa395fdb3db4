"""`leeward-gateway`: the data plane. Tenants' programs call it; it meters them and asks the engine.

Runs as an unprivileged user, with no access to the management socket. It reads its certificate,
the ledger and the active slot's `release.json`, and talks to one Unix socket.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from uuid import uuid4

import click
import structlog

from appliance.config import Settings
from appliance.domain.errors import ConfigInvalid, LeewardError
from appliance.entrypoints.gateway.application import GatewayApplication, GatewayOptions
from appliance.entrypoints.gateway.engines import place_of
from appliance.entrypoints.gateway.exposition import MetricsAccess
from appliance.entrypoints.gateway.server import make_server
from appliance.entrypoints.gateway.tracing import SlowLimits
from appliance.gateway_settings import MetricsSettings
from appliance.services.queueing import QueueLimits
from bundles.release import EngineRelease, release_from_bytes


@click.command()
@click.option("--socket", type=click.Path(path_type=Path), help="The engine's Unix socket.")
@click.option("--ledger", type=click.Path(path_type=Path), help="The ledger's file.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Private key, PEM.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port to listen on.")
@click.option("--served-model", help="The served model's name; default: the active release's.")
def main(
    *,
    socket: Path | None,
    ledger: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    host: str | None,
    port: int | None,
    served_model: str | None,
) -> None:
    """Serve the OpenAI-compatible API over TLS. Options not given come from the site configuration."""
    configure_logs()
    try:
        settings = Settings.load()
        paths = settings.paths
        slots = QueueLimits().slots
        if served_model is None:
            engine = engine_of(paths.current_slot)
            served_model, slots = engine.served_model_name, engine.max_num_seqs
        engines = tuple(place_of(one, slots=slots, tls=paths.engine_tls) for one in settings.engines)
        options = GatewayOptions(
            engine_socket=socket or paths.engine_socket,
            ledger=ledger or paths.ledger,
            served_model=served_model,
            queue=QueueLimits(slots=sum(place.slots for place in engines) or slots),
            engines=engines,
            drained=paths.drained_engines,
            standings=paths.engine_standings if paths.engine_standings.parent.is_dir() else None,
            sign_in=paths.sign_in_socket,
            capture_order=paths.capture_order,
            metrics=_metrics_access(settings.metrics),
            slow=SlowLimits(start_s=settings.gateway.slow_start_s, whole_s=settings.gateway.slow_request_s),
        )
        server = make_server(
            GatewayApplication(options, boot_id=str(uuid4())),
            host=host or settings.gateway.host,
            port=port or settings.gateway.port,
            tls_cert=tls_cert or paths.tls_certificate,
            tls_key=tls_key or paths.tls_key,
        )
    except LeewardError as problem:
        sys.exit(_say(problem))
    server.run()
    sys.exit(0 if server.started else 1)


def engine_of(slot: Path) -> EngineRelease:
    """Read what a slot's engine serves, and how; raises ConfigInvalid, or ReleaseInvalid for a broken manifest."""
    try:
        content = (slot / "release.json").read_bytes()
    except OSError as problem:
        raise ConfigInvalid(
            detail=f"No active release: {slot}/release.json cannot be read ({problem.strerror}).",
            remedy="Import a release and run `leeward provision`.",
        ) from problem
    release = release_from_bytes(content)
    if release.engine is None:
        raise ConfigInvalid(detail=f"{slot} holds no engine.", remedy="Activate a release, not an evidence bundle.")
    return release.engine


def configure_logs() -> None:
    """Send everything to standard output as JSON lines; no line holds text of a request or an answer."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.EventRenamer("message"),
                _name_event,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def _name_event(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["event"] = "library_message"
    return event


def _metrics_access(settings: MetricsSettings) -> MetricsAccess | None:
    if settings.token_sha256 is None:
        return None
    return MetricsAccess(token_sha256=settings.token_sha256, networks=settings.networks)


def _say(problem: LeewardError) -> int:
    structlog.get_logger().error(
        "gateway_refused_to_start", code=problem.code, detail=problem.detail, remedy=problem.remedy
    )
    return problem.exit_status
