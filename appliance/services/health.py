"""Health: one look at everything, folded into one verdict with its causes.

SERVING promises: the engine's unit is active, it has just given the known answer, the gateway is
active, all GPUs that the release needs are there, and no alert is of severity FAIL. What cannot be
read is unknown and said so. A report is at most one second old.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from appliance.domain.audit import AuditEntry
from appliance.domain.errors import CommandFailed, LedgerUnavailable
from appliance.domain.health import (
    Alert,
    DiskHealth,
    EngineHealth,
    HealthReport,
    RecentEvent,
    Severity,
    SystemHealth,
    Verdict,
    restarts_in_a_loop,
)
from appliance.domain.license import assess, note
from appliance.domain.node import NodeFacts
from appliance.domain.xid import XidSeen, XidTable, xid_alerts
from appliance.ports import AuditLog, Clock, Engine, LicenseRegister, NodeProbe, ServiceManager, UsageReader
from appliance.services.alerts import UNKNOWN, Signals, alerts, by_severity
from appliance.services.readiness import ENGINE_UNIT, Readiness, ReadinessProbe
from bundles.release import Release

GATEWAY_UNIT: Final = "leeward-gateway.service"
STARTUP_S: Final = 1_800.0
"""How long an engine may take to its first answer: 134 GB of weights from a slow disk, then compiling."""
GRACE_S: Final = {"usage-unsettled": 300.0}
"""Alerts that count only after they have lasted."""
RECENT_EVENTS: Final = 20
_BAD_OUTCOMES: Final = {"failed": Severity.FAIL, "refused": Severity.WARN, "canceled": Severity.WARN}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPorts:
    """Where the signals come from.

    `release` gives the current one, `certificate` when it ends; `usage` opens the ledger and may
    raise LedgerUnavailable, as may what it opens.
    """

    probe: NodeProbe
    engine: Engine
    services: ServiceManager
    readiness: ReadinessProbe
    usage: Callable[[], UsageReader]
    audit: AuditLog
    licenses: LicenseRegister
    clock: Clock
    release: Callable[[], Release | None]
    certificate: Callable[[], datetime | None]
    xids: Callable[[], tuple[XidSeen, ...] | None] = tuple
    """The GPU driver's errors of this boot; `None` where they cannot be read."""
    xid_table: XidTable = field(default_factory=lambda: XidTable(xids={}, actions={}))
    more_alerts: Callable[[], tuple[Alert, ...]] = tuple
    """Alerts that others make of what they watch."""


class Health:
    """Makes health reports; thread-safe. `cache_s` is how old a report may be."""

    def __init__(
        self,
        ports: HealthPorts,
        *,
        node: str,
        cache_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ports = ports
        self._node = node
        self._cache_s = cache_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._made: tuple[float, HealthReport] | None = None
        self._first_seen: dict[tuple[str, str], datetime] = {}

    def report(self) -> HealthReport:
        """Look at the node, or return the report of less than a second ago."""
        with self._lock:
            if self._made is not None and self._monotonic() - self._made[0] < self._cache_s:
                return self._made[1]
            report = self._look()
            self._made = (self._monotonic(), report)
            return report

    def _look(self) -> HealthReport:
        release = self._ports.release()
        facts = self._ports.probe.facts()
        engine, readiness = self._engine(release)
        system = self._system(facts)
        required = release.requirements.gpus if release and release.requirements else None
        signals = Signals(
            facts=facts,
            gpus_required=required,
            engine=engine,
            system=system,
            engine_rises=engine is not None and _rises(engine, facts.observed_at, was_ready=readiness.was_ready),
        )
        seen = (*alerts(signals), *self._xids(facts, engine), *self._ports.more_alerts())
        found = self._lasting(by_severity(seen), facts.observed_at)
        return HealthReport(
            observed_at=facts.observed_at,
            node=self._node,
            verdict=verdict(signals, found),
            release=None if release is None else release.slot,
            alerts=found,
            gpus=facts.gpus,
            gpus_required=required,
            engine=engine,
            system=system,
            events=self._events(),
            simulated=facts.simulated,
        )

    def _xids(self, facts: NodeFacts, engine: EngineHealth | None) -> Iterator[Alert]:
        seen = self._ports.xids()
        if seen is not None:
            yield from xid_alerts(seen, self._ports.xid_table, gpus=facts.gpus, engine=engine)
        elif facts.gpus:
            yield Alert(
                code="gpu-xid-unknown",
                severity=Severity.WARN,
                title="The GPU driver's errors cannot be read",
                advice="journald does not give the kernel's log: try `journalctl --dmesg | grep Xid` on the node.",
                since=None,
            )

    def _engine(self, release: Release | None) -> tuple[EngineHealth | None, Readiness]:
        if release is None:
            return None, Readiness(ready=None, age_s=None, note="no release is current")
        state = self._state(ENGINE_UNIT)
        started_at = self._started_at(ENGINE_UNIT)
        readiness = self._ports.readiness.last(engine_started_at=started_at)
        if state == "active":
            seen = self._ports.engine.health()
            ready = readiness.ready
        else:
            seen = _silent_engine()
            ready = None if state == UNKNOWN else False
        health = replace(
            seen,
            unit_state=state,
            started_at=started_at or seen.started_at,
            ready=ready,
            ready_age_s=readiness.age_s,
            ready_note=readiness.note,
            restarts=self._restarts(ENGINE_UNIT),
        )
        return health, readiness

    def _system(self, facts: NodeFacts) -> SystemHealth:
        now = facts.observed_at
        terms, attestations = self._ports.licenses.terms(), self._ports.licenses.attestations()
        state = assess(terms, attestations, now)
        records, unsettled = self._usage()
        head = self._ports.audit.head()
        return SystemHealth(
            disks=_disks(facts),
            certificate_not_after=self._ports.certificate(),
            license_state=state.value,
            license_note=note(state, now),
            audit_entries=0 if head is None else head.seq,
            audit_head="" if head is None else head.entry_hash,
            usage_records=records,
            usage_unsettled=unsettled,
            gateway_state=self._state(GATEWAY_UNIT),
        )

    def _usage(self) -> tuple[int | None, int | None]:
        try:
            return self._ports.usage().counts()
        except LedgerUnavailable:
            return (None, None)

    def _state(self, unit: str) -> str:
        try:
            return self._ports.services.active_state(unit)
        except CommandFailed:
            return UNKNOWN

    def _started_at(self, unit: str) -> datetime | None:
        try:
            return self._ports.services.started_at(unit)
        except CommandFailed:
            return None

    def _restarts(self, unit: str) -> int | None:
        try:
            return self._ports.services.automatic_restarts(unit)
        except CommandFailed:
            return None

    def _lasting(self, found: tuple[Alert, ...], now: datetime) -> tuple[Alert, ...]:
        """Give each alert its beginning; leave out those that must last longer to count."""
        self._first_seen = {
            (alert.code, alert.title): self._first_seen.get((alert.code, alert.title), now) for alert in found
        }
        dated = [replace(alert, since=self._first_seen[alert.code, alert.title]) for alert in found]
        return tuple(
            alert
            for alert in dated
            if alert.since is None or (now - alert.since).total_seconds() >= GRACE_S.get(alert.code, 0.0)
        )

    def _events(self) -> tuple[RecentEvent, ...]:
        head = self._ports.audit.head()
        if head is None:
            return ()
        entries = self._ports.audit.entries(max(0, head.seq - RECENT_EVENTS), RECENT_EVENTS)
        return tuple(_event(entry) for entry in reversed(entries))


def verdict(signals: Signals, found: tuple[Alert, ...]) -> Verdict:
    """Fold the signals into one word. Pure."""
    engine = signals.engine
    if engine is None:
        return Verdict.EMPTY
    is_loop = restarts_in_a_loop(engine.restarts)
    if engine.unit_state != "active":
        return Verdict.DOWN if is_loop else _of_unit(engine.unit_state)
    if signals.engine_rises:
        return Verdict.STARTING
    if engine.ready is not True:
        return Verdict.DEGRADED if engine.ready is None and not is_loop else Verdict.DOWN
    if signals.system.gateway_state != "active":
        return _of_unit(signals.system.gateway_state)
    is_whole = len(signals.facts.gpus) >= (signals.gpus_required or 0)
    return Verdict.SERVING if is_whole and all(a.severity is not Severity.FAIL for a in found) else Verdict.DEGRADED


def _of_unit(state: str) -> Verdict:
    """Return what a unit that is not active makes of the node."""
    words = {"activating": Verdict.STARTING, "reloading": Verdict.STARTING, UNKNOWN: Verdict.DEGRADED}
    return words.get(state, Verdict.DOWN)


def _rises(engine: EngineHealth, now: datetime, *, was_ready: bool) -> bool:
    """Whether an engine without an answer is still starting: it has never answered, and is young."""
    is_young = engine.started_at is not None and (now - engine.started_at).total_seconds() < STARTUP_S
    may_rise = is_young and not was_ready and not restarts_in_a_loop(engine.restarts)
    return engine.unit_state == "active" and engine.ready is not True and may_rise


def _disks(facts: NodeFacts) -> tuple[DiskHealth, ...]:
    """Return each file system once, under the most telling of its paths."""
    order = ("/var/lib/leeward", "/opt", "/")
    seen: dict[str, DiskHealth] = {}
    for path in order:
        place = facts.filesystem(path)
        if place is not None:
            disk = DiskHealth(path=path, total_bytes=place.total_bytes, free_bytes=place.free_bytes)
            seen.setdefault(place.device or path, disk)
    return tuple(seen.values())


def _event(entry: AuditEntry) -> RecentEvent:
    text = f"{entry.actor}: {entry.action} {entry.object} {entry.outcome}"
    return RecentEvent(at=entry.at, severity=_BAD_OUTCOMES.get(entry.outcome, Severity.OK), text=text)


def _silent_engine() -> EngineHealth:
    """What is known of an engine whose unit is not active: nothing."""
    return EngineHealth(
        unit_state=UNKNOWN, live=False, ready=None, version=None, served_model_name=None, started_at=None,
        requests_running=None, requests_waiting=None, kv_cache_usage_percent=None, prompt_tokens_total=None,
        generation_tokens_total=None, draft_tokens_total=None, accepted_tokens_total=None, drafts_total=None,
        time_to_first_token_p50_s=None, time_to_first_token_p95_s=None, inter_token_p50_s=None,
        inter_token_p95_s=None,
    )  # fmt: skip
