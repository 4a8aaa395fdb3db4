"""The composition root of the management daemon: settings in, services out.

Which adapter stands behind which port is decided here and nowhere else. One thing may be simulated,
GPUs: with `simulation.nvml` set, a twin of NVML is loaded, what is read through it is marked, and
status, facts and health all say so.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import Lock

from sqlalchemy import Engine as SqlEngine

from appliance.adapters.acceptance import EngineBurnIn, EngineLoadMeter, PassportFolder
from appliance.adapters.ansible import AnsibleRunner
from appliance.adapters.clock import SystemClock
from appliance.adapters.gateway import TlsGatewayProbe
from appliance.adapters.host import DiskTimer, HostProbe, SystemdServices, certificate_not_after, redaction_key
from appliance.adapters.host.boot import BootFiles
from appliance.adapters.host.egress import EgressTables
from appliance.adapters.host.egress_record import EgressRecordFile
from appliance.adapters.host.posture import probes
from appliance.adapters.host.scanner import SiteScanner
from appliance.adapters.nvml import NvmlProbe
from appliance.adapters.plans import PlanFolder
from appliance.adapters.reports import SupportReportFolder
from appliance.adapters.simulated import preload_mock_nvml
from appliance.adapters.slots import MANIFEST, SlotFolder
from appliance.adapters.sql import Database, SqlAuditLog, SqlJournal, SqlLicenseRegister
from appliance.adapters.sql_ledger import SqlKeyRegister, SqlTenancyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.adapters.vllm import VllmEngine
from appliance.config import Paths, Settings
from appliance.domain.acceptance import bands_from_toml
from appliance.domain.costs import PriceBook, price_book
from appliance.domain.errors import ConfigInvalid, LeewardError
from appliance.domain.operation import StepName
from appliance.domain.posture import items_from_toml
from appliance.domain.tenancy import KeyTerms
from appliance.domain.usage import ApiKey
from appliance.ports import (
    BurnIn,
    DiskMeter,
    GatewayProbe,
    LoadMeter,
    MediaScanner,
    NodeBoot,
    NodeProbe,
    PlaybookRunner,
    ServiceManager,
)
from appliance.ports import Engine as EnginePort
from appliance.resources import gpu_bands, list_prices, posture_table
from appliance.services.acceptance import Passports
from appliance.services.compliance import Compliance
from appliance.services.custody import Custody
from appliance.services.egress import EgressSource, EgressWatch
from appliance.services.evidence import EvidencePorts
from appliance.services.exports import EvidenceExports, ExportPlaces
from appliance.services.health import Health, HealthPorts
from appliance.services.keys import Keys
from appliance.services.management import Management, NodeIdentity
from appliance.services.operations import OperationPorts, Operations
from appliance.services.plan import Plans
from appliance.services.posture import Posture
from appliance.services.readiness import ReadinessProbe
from appliance.services.scrubbing import Scrubbing
from appliance.services.site_keys import SiteKeys
from appliance.services.steps import Step
from appliance.services.steps.acceptance import BurnInStep, MeasureStep
from appliance.services.steps.evidence import CollectStep, SignStep
from appliance.services.steps.intake import ImportPlaces, ImportStep
from appliance.services.steps.license import LicenseStep
from appliance.services.steps.plan import PlanStep
from appliance.services.steps.preflight import PreflightStep, preflight
from appliance.services.steps.provision import ProvisionStep, SiteVariables
from appliance.services.steps.reboot import RebootStep
from appliance.services.steps.removal import RemovalStep
from appliance.services.steps.smoke_test import SmokeTestStep
from appliance.services.steps.start import StartStep
from appliance.services.tenancy import Tenancy
from bundles.release import KnownAnswer, Release

GATEWAY_ACCOUNT = "leeward-gateway"
ENGINE_ACCOUNT = "leeward-engine"
AUDITOR_GROUP = "leeward-auditor"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The adapters that touch the node; tests give twins of some."""

    probe: NodeProbe
    services: ServiceManager
    engine: EnginePort
    runner: PlaybookRunner
    gateway: GatewayProbe
    ledger_owner: Callable[[], tuple[int, int]]
    simulated: tuple[str, ...]
    boot: NodeBoot
    meter: DiskMeter | None = None
    scanner: MediaScanner | None = None
    egress: EgressSource = field(default_factory=EgressTables)
    burn_in: BurnIn | None = None
    load: LoadMeter | None = None


def real_world(settings: Settings) -> World:
    """Make the adapters of a node. Raises ConfigInvalid where the simulated NVML does not load."""
    twin = settings.simulation.nvml
    gpus = NvmlProbe() if twin is None else preload_mock_nvml(twin)
    services = SystemdServices()
    return World(
        probe=HostProbe(gpus=gpus, clock=SystemClock(), gateway_port=settings.gateway.port),
        services=services,
        engine=VllmEngine(settings.paths.engine_socket, services=services),
        runner=AnsibleRunner(settings.paths.data / "state/ansible"),
        gateway=TlsGatewayProbe(port=settings.gateway.port, certificate=settings.paths.tls_certificate),
        ledger_owner=ledger_owner,
        simulated=() if twin is None else ("gpus",),
        boot=BootFiles(settings.paths.restart_reasons),
        meter=DiskTimer(),
        scanner=None if settings.imports.scan is None else SiteScanner(settings.imports.scan),
    )


def ledger_owner() -> tuple[int, int]:
    """Return account and group of the ledger. Raises ConfigInvalid before the play has made them."""
    try:
        return pwd.getpwnam(GATEWAY_ACCOUNT).pw_uid, grp.getgrnam(AUDITOR_GROUP).gr_gid
    except KeyError as error:
        raise ConfigInvalid(
            detail=f"The node lacks the account {GATEWAY_ACCOUNT} or the group {AUDITOR_GROUP}.",
            remedy="Run `leeward provision`, whose play makes them.",
        ) from error


@contextmanager
def management_of(settings: Settings, world: World | None = None) -> Iterator[Management]:
    """Give the services of the management daemon; closes what they opened.

    Raises StateUnusable where `leeward.db` cannot be used, ConfigInvalid.
    """
    world = world or real_world(settings)
    paths, clock = settings.paths, SystemClock()
    database = Database.open(paths.database)
    ledger = LedgerDoor(paths.ledger, world.ledger_owner)
    slots = SlotFolder(paths.slots)
    journal, audit, register = SqlJournal(database), SqlAuditLog(database, clock), SqlLicenseRegister(database)
    readiness = ReadinessProbe(engine=world.engine, services=world.services, known_answer=partial(_known_answer, slots))
    egress = EgressWatch(
        source=world.egress, store=EgressRecordFile(paths.data / "state/egress.json"), audit=audit, clock=clock
    )
    parts = _Parts(
        settings=settings,
        world=world,
        clock=clock,
        journal=journal,
        audit=audit,
        register=register,
        ledger=ledger,
        slots=slots,
        keys=Keys(register=ledger, audit=audit, clock=clock),
        tenancy=Tenancy(register=ledger.tenancy, keys=ledger, audit=audit, clock=clock),
        compliance=Compliance(register=register, audit=audit, clock=clock),
        reports=SupportReportFolder(paths.reports),
        readiness=readiness,
        egress=egress,
        plans=Plans(
            store=PlanFolder(paths.data / "state/plans"),
            audit=audit,
            journal=journal,
            needs_approval=settings.plan.second_admin,
        ),
        scrubbing=Scrubbing(slots=slots, record=paths.data / "state/scrub.json", audit=audit, clock=clock),
    )
    readiness.start()
    egress.start()
    parts.scrubbing.start()
    try:
        yield _management(parts)
    finally:
        readiness.stop()
        egress.stop()
        parts.scrubbing.stop()
        ledger.close()
        database.close()


class LedgerDoor:
    """Opens the ledger when it is first needed, because `provision` makes it while the daemon runs.

    It is also the key register itself, for those who hold one before there is a ledger.
    """

    def __init__(self, path: Path, owner: Callable[[], tuple[int, int]]) -> None:
        self._path = path
        self._owner = owner
        self._lock = Lock()
        self._engine: SqlEngine | None = None

    def usage(self) -> SqlUsageReader:
        """Return the reader; raises LedgerUnavailable."""
        return SqlUsageReader(self._open())

    def register(self) -> SqlKeyRegister:
        """Return the key register; raises LedgerUnavailable."""
        return SqlKeyRegister(self._open())

    def tenancy(self) -> SqlTenancyRegister:
        """Return the register of teams and quotas; raises LedgerUnavailable."""
        return SqlTenancyRegister(self._open())

    def create(self, *, name: str, team: str, at: datetime, terms: KeyTerms | None = None) -> tuple[ApiKey, str]:
        """Make a key; raises LedgerUnavailable."""
        return self.register().create(name=name, team=team, at=at, terms=terms)

    def rotate(self, key_id: str, *, at: datetime, ends_at: datetime) -> tuple[ApiKey, str]:
        """Replace a key; raises NotFound, LedgerUnavailable."""
        return self.register().rotate(key_id, at=at, ends_at=ends_at)

    def revoke(self, key_id: str, at: datetime) -> None:
        """End a key's use; raises NotFound, LedgerUnavailable."""
        self.register().revoke(key_id, at)

    def keys(self) -> list[ApiKey]:
        """Return all keys; raises LedgerUnavailable."""
        return self.register().keys()

    def make(self) -> None:
        """Make the ledger for the gateway, or bring it up to date. Raises ConfigInvalid, LedgerUnavailable."""
        uid, gid = self._owner()
        self.close()
        create_ledger(self._path, uid, gid)

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    def _open(self) -> SqlEngine:
        with self._lock:
            if self._engine is None:
                self._engine = open_ledger(self._path)
            return self._engine


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    settings: Settings
    world: World
    clock: SystemClock
    journal: SqlJournal
    audit: SqlAuditLog
    register: SqlLicenseRegister
    ledger: LedgerDoor
    slots: SlotFolder
    keys: Keys
    tenancy: Tenancy
    compliance: Compliance
    reports: SupportReportFolder
    readiness: ReadinessProbe
    egress: EgressWatch
    scrubbing: Scrubbing
    plans: Plans


def _management(parts: _Parts) -> Management:
    settings, world = parts.settings, parts.world
    operations = Operations(
        OperationPorts(journal=parts.journal, audit=parts.audit, clock=parts.clock, reports=parts.reports),
        steps=_steps(parts),
        node=settings.node_name,
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
        passports=_passports(parts),
        probe=world.probe,
        preflight=partial(preflight, world.probe, meter=world.meter),
        health=Health(_health_ports(parts), node=settings.node_name).report,
        posture=_posture().findings,
        egress=parts.egress.look,
        audit=parts.audit,
        licenses=parts.register,
        compliance=parts.compliance,
        usage=parts.ledger.usage,
        price_book=partial(_price_book, parts.settings.paths.price_book),
        clock=parts.clock,
        reports=parts.reports,
        meter=world.meter,
        redaction_key=redaction_key() or os.urandom(32),
    )


def _posture() -> Posture:
    return Posture(items_from_toml(posture_table()), probes())


def _steps(parts: _Parts) -> dict[StepName, Step]:
    paths, world, slots = parts.settings.paths, parts.world, parts.slots
    exports = EvidenceExports(
        _evidence_ports(parts),
        ExportPlaces(keys=paths.evidence_keys, work=paths.data / "state/exports"),
        node=parts.settings.node_name,
    )
    site = SiteVariables(gateway_port=parts.settings.gateway.port, roles=parts.settings.role_variables)
    provision = ProvisionStep(
        slots=slots,
        probe=world.probe,
        runner=world.runner,
        make_ledger=parts.ledger.make,
        audit=parts.audit,
        site=site,
        boot=world.boot,
        plans=parts.plans,
    )
    return {
        StepName.PREFLIGHT: PreflightStep(world.probe, slots=slots, audit=parts.audit, meter=world.meter),
        StepName.IMPORT: ImportStep(
            places=_import_places(paths),
            slots=slots,
            audit=parts.audit,
            clock=parts.clock,
            custody=_custody(parts),
            scanner=world.scanner,
        ),
        StepName.LICENSE: LicenseStep(slots=slots, compliance=parts.compliance, register=parts.register),
        StepName.PROVISION: provision,
        StepName.REBOOT: RebootStep(
            boot=world.boot, journal=parts.journal, services=world.services, provision=provision
        ),
        StepName.START: StartStep(slots=slots, services=world.services, engine=world.engine),
        StepName.SMOKE_TEST: SmokeTestStep(
            slots=slots,
            keys=parts.keys,
            usage=parts.ledger.usage,
            gateway=world.gateway,
        ),
        StepName.COLLECT: CollectStep(exports),
        StepName.SIGN: SignStep(exports),
        StepName.PLAN: PlanStep(
            slots=slots,
            probe=world.probe,
            runner=world.runner,
            boot=world.boot,
            journal=parts.journal,
            clock=parts.clock,
            plans=parts.plans,
            site=site,
            node=parts.settings.node_name,
        ),
        StepName.REMOVE: RemovalStep(
            slots=slots, probe=world.probe, runner=world.runner, node=parts.settings.node_name
        ),
        **_acceptance_steps(parts),
    }


def _acceptance_steps(parts: _Parts) -> dict[StepName, Step]:
    paths, world, slots, store = parts.settings.paths, parts.world, parts.slots, _passport_folder(parts)
    burn_in = world.burn_in or EngineBurnIn(
        python=paths.engine_environments / "current/bin/python",
        cache=paths.root / "var/cache/leeward-engine",
        account=ENGINE_ACCOUNT,
    )
    return {
        StepName.BURN_IN: BurnInStep(
            slots=slots, services=world.services, probe=world.probe, burn_in=burn_in, store=store
        ),
        StepName.MEASURE: MeasureStep(
            slots=slots,
            probe=world.probe,
            meter=world.load or EngineLoadMeter(paths.engine_socket),
            store=store,
            audit=parts.audit,
            bands=bands_from_toml(gpu_bands()),
            node=parts.settings.node_name,
            simulated=world.simulated,
        ),
    }


def _passport_folder(parts: _Parts) -> PassportFolder:
    return PassportFolder(parts.settings.paths.data / "state/passports")


def _passports(parts: _Parts) -> Passports:
    return Passports(_passport_folder(parts), slot=parts.slots.current)


def _import_places(paths: Paths) -> ImportPlaces:
    return ImportPlaces(trust=paths.trust, store=paths.store, slots=paths.slots, staging=paths.data / "staging")


def _custody(parts: _Parts) -> Custody:
    paths, node = parts.settings.paths, parts.settings.node_name
    return Custody(keys=SiteKeys(folder=paths.evidence_keys, audit=parts.audit), folder=paths.receipts, node=node)


def _health_ports(parts: _Parts) -> HealthPorts:
    return HealthPorts(
        probe=parts.world.probe,
        engine=parts.world.engine,
        services=parts.world.services,
        readiness=parts.readiness,
        usage=parts.ledger.usage,
        audit=parts.audit,
        licenses=parts.register,
        clock=parts.clock,
        release=partial(_current_release, parts.slots),
        certificate=partial(certificate_not_after, parts.settings.paths.tls_certificate),
        more_alerts=lambda: (*parts.egress.alerts(), *parts.scrubbing.alerts(), *_passports(parts).alerts()),
    )


def _evidence_ports(parts: _Parts) -> EvidencePorts:
    return EvidencePorts(
        audit=parts.audit,
        usage=parts.ledger.usage,
        key_register=parts.ledger.register,
        licenses=parts.register,
        journal=parts.journal,
        probe=parts.world.probe,
        release_json=partial(_current_manifest, parts.settings.paths.current_slot),
        egress=parts.egress.look,
        posture=_posture().findings,
        receipts=_custody(parts).files,
        passports=_passports(parts).views,
    )


def _price_book(path: Path) -> PriceBook:
    """Return the site's price book, or the list prices that ship; raises ConfigInvalid."""
    try:
        return price_book(path.read_text(encoding="utf-8"), where=str(path))
    except FileNotFoundError:
        return price_book(list_prices(), where="the list prices that ship with Leeward")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(detail=f"{path} cannot be read: {error}.", remedy="Make it readable text.") from error


def _current_release(slots: SlotFolder) -> Release | None:
    """Return the current release; unknown where none is current or its manifest is damaged."""
    slot = slots.current()
    try:
        return None if slot is None else slots.release(slot)
    except LeewardError:
        return None


def _known_answer(slots: SlotFolder) -> KnownAnswer | None:
    release = _current_release(slots)
    return release.engine.known_answer if release and release.engine else None


def _current_manifest(slot: Path) -> bytes | None:
    try:
        return (slot / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
