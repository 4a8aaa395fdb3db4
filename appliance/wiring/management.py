"""All services of the management daemon, opened and closed together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from appliance.adapters.capture import CaptureOrderFile
from appliance.adapters.host import certificate_not_after, redaction_key
from appliance.adapters.host.engine_board import EngineBoard
from appliance.adapters.sql import Database
from appliance.config import Settings, read_sign_in
from appliance.domain.costs import PriceBook, price_book
from appliance.domain.errors import ConfigInvalid
from appliance.domain.xid import XidTable
from appliance.resources import list_prices, xid_table
from appliance.services.capture import ContentCapture
from appliance.services.engines import EngineControl
from appliance.services.health import Health, HealthPorts
from appliance.services.management import Management, NodeIdentity
from appliance.services.operations import OperationPorts, Operations
from appliance.services.steps.preflight import preflight
from appliance.wiring.ledger import LedgerDoor
from appliance.wiring.parts import Parts, current_release, parts_of
from appliance.wiring.steps import steps_of
from appliance.wiring.world import World, real_world


@contextmanager
def management_of(settings: Settings, world: World | None = None) -> Iterator[Management]:
    """Give the services of the management daemon; closes what they opened.

    Raises StateUnusable where `leeward.db` cannot be used, ConfigInvalid.
    """
    world = world or real_world(settings)
    database = Database.open(settings.paths.database)
    ledger = LedgerDoor(settings.paths.ledger, world.ledger_owner)
    parts = parts_of(settings, world, database=database, ledger=ledger)
    parts.readiness.start()
    parts.egress.start()
    parts.scrubbing.start()
    try:
        yield _management(parts)
    finally:
        parts.readiness.stop()
        parts.egress.stop()
        parts.scrubbing.stop()
        ledger.close()
        database.close()


def _management(parts: Parts) -> Management:
    settings, world = parts.settings, parts.world
    operations = Operations(
        OperationPorts(journal=parts.journal, audit=parts.audit, clock=parts.clock, reports=parts.reports),
        steps=steps_of(parts),
        node=settings.node_name,
        is_change_measured=settings.accepts_changes,
    )
    return Management(
        identity=NodeIdentity(
            node=settings.node_name,
            appliance_version=version("leeward"),
            simulated=world.simulated,
            slot=parts.slots.current,
        ),
        operations=operations,
        plans=parts.plans,
        keys=parts.keys,
        tenancy=parts.tenancy,
        engines=EngineControl(
            settings.engine_places,
            board=EngineBoard(drained=settings.paths.drained_engines, standings=settings.paths.engine_standings),
            audit=parts.audit,
        ),
        capture=_capture(parts),
        passports=parts.passports,
        probe=world.probe,
        preflight=partial(preflight, world.probe, meter=world.meter),
        health=Health(_health_ports(parts), node=settings.node_name).report,
        posture=parts.posture.findings,
        egress=parts.egress.look,
        audit=parts.audit,
        licenses=parts.register,
        compliance=parts.compliance,
        usage=parts.ledger.usage,
        price_book=partial(_price_book, settings.paths.price_book),
        sign_in=partial(read_sign_in, settings.paths.sign_in_file),
        clock=parts.clock,
        reports=parts.reports,
        meter=world.meter,
        redaction_key=redaction_key() or os.urandom(32),
    )


def _health_ports(parts: Parts) -> HealthPorts:
    return HealthPorts(
        probe=parts.world.probe,
        engine=parts.world.engine,
        services=parts.world.services,
        readiness=parts.readiness,
        usage=parts.ledger.usage,
        audit=parts.audit,
        licenses=parts.register,
        clock=parts.clock,
        release=partial(current_release, parts.slots),
        certificate=partial(certificate_not_after, parts.settings.paths.tls_certificate),
        xids=parts.world.xids,
        xid_table=XidTable.from_toml(xid_table()),
        more_alerts=lambda: (
            *parts.egress.alerts(),
            *parts.scrubbing.alerts(),
            *parts.passports.alerts(),
            *_capture(parts).alerts(),
        ),
    )


def _capture(parts: Parts) -> ContentCapture:
    orders = CaptureOrderFile(parts.settings.paths.capture_order)
    return ContentCapture(orders=orders, audit=parts.audit, clock=parts.clock)


def _price_book(path: Path) -> PriceBook:
    """Return the site's price book, or the list prices that ship; raises ConfigInvalid."""
    try:
        return price_book(path.read_text(encoding="utf-8"), where=str(path))
    except FileNotFoundError:
        return price_book(list_prices(), where="the list prices that ship with Leeward")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(detail=f"{path} cannot be read: {error}.", remedy="Make it readable text.") from error
