"""What several services and steps share, made once: registers, folders, watches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from appliance.adapters.acceptance import PassportFolder
from appliance.adapters.clock import SystemClock
from appliance.adapters.host.egress_record import EgressRecordFile
from appliance.adapters.host.posture import probes
from appliance.adapters.plans import PlanFolder
from appliance.adapters.reports import SupportReportFolder
from appliance.adapters.slots import SlotFolder
from appliance.adapters.sql import Database, SqlAuditLog, SqlJournal, SqlLicenseRegister
from appliance.config import Settings
from appliance.domain.posture import items_from_toml
from appliance.resources import posture_table
from appliance.services.acceptance import Passports
from appliance.services.compliance import Compliance
from appliance.services.custody import Custody
from appliance.services.egress import EgressWatch
from appliance.services.keys import Keys
from appliance.services.plan import Plans
from appliance.services.posture import Posture
from appliance.services.readiness import ReadinessProbe
from appliance.services.scrubbing import Scrubbing
from appliance.services.site_keys import SiteKeys
from appliance.services.tenancy import Tenancy
from appliance.wiring.ledger import LedgerDoor
from appliance.wiring.world import World
from bundles.errors import LeewardError
from bundles.release import KnownAnswer, Release
from bundles.trust import TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The shared parts of one daemon; whoever makes them starts and stops what runs."""

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
    posture: Posture
    custody: Custody
    passport_folder: PassportFolder
    passports: Passports


def parts_of(settings: Settings, world: World, *, database: Database, ledger: LedgerDoor) -> Parts:
    """Make the shared parts; nothing runs yet."""
    paths, state, clock = settings.paths, settings.paths.data / "state", SystemClock()
    slots, passport_folder = SlotFolder(paths.slots), PassportFolder(state / "passports")
    journal, audit, register = SqlJournal(database), SqlAuditLog(database, clock), SqlLicenseRegister(database)
    return Parts(
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
        readiness=ReadinessProbe(
            engine=world.engine, services=world.services, known_answer=partial(_known_answer, slots)
        ),
        egress=EgressWatch(
            source=world.egress, store=EgressRecordFile(state / "egress.json"), audit=audit, clock=clock
        ),
        scrubbing=Scrubbing(
            slots=slots,
            record=state / "scrub.json",
            audit=audit,
            clock=clock,
            accepted=TrustStore(paths.trust).accepted,
        ),
        plans=Plans(
            store=PlanFolder(state / "plans"),
            audit=audit,
            journal=journal,
            needs_approval=settings.plan.second_admin,
        ),
        posture=Posture(items_from_toml(posture_table()), probes()),
        custody=Custody(
            keys=SiteKeys(folder=paths.evidence_keys, audit=audit), folder=paths.receipts, node=settings.node_name
        ),
        passport_folder=passport_folder,
        passports=Passports(passport_folder, slot=slots.current),
    )


def current_release(slots: SlotFolder) -> Release | None:
    """Return the current release; unknown where none is current or its manifest is damaged."""
    slot = slots.current()
    try:
        return None if slot is None else slots.release(slot)
    except LeewardError:
        return None


def _known_answer(slots: SlotFolder) -> KnownAnswer | None:
    release = current_release(slots)
    return release.engine.known_answer if release and release.engine else None
