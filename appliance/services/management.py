"""Everything that the management API can be asked, in one value that wiring makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from appliance.domain.costs import CostReport, PriceBook, cost_report
from appliance.domain.egress import EgressReport
from appliance.domain.health import HealthReport
from appliance.domain.license import LicenseStatus, assess
from appliance.domain.node import NodeFacts, redacted
from appliance.domain.operation import Actor
from appliance.domain.posture import PostureFinding
from appliance.domain.preflight import Finding, Judgement, judged
from appliance.domain.sign_in import SignInSettings
from appliance.domain.status import NodeStatus, Role
from appliance.domain.usage_report import UsageDimension
from appliance.ports import AuditLog, Clock, DiskMeter, LicenseRegister, NodeProbe, SupportReports, UsageReader
from appliance.services.acceptance import Passports
from appliance.services.capture import ContentCapture
from appliance.services.compliance import Compliance
from appliance.services.engines import EngineControl
from appliance.services.keys import Keys
from appliance.services.operations import Operations
from appliance.services.plan import Plans
from appliance.services.preflight import measured, record_waivers
from appliance.services.tenancy import Tenancy


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """What the daemon knows of itself; `slot` reads which release is current."""

    node: str
    appliance_version: str
    simulated: tuple[str, ...]
    slot: Callable[[], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Management:
    """The services behind the management API.

    `usage` raises LedgerUnavailable before there is a ledger, `price_book` ConfigInvalid.
    """

    identity: NodeIdentity
    operations: Operations
    plans: Plans
    passports: Passports
    keys: Keys
    tenancy: Tenancy
    engines: EngineControl
    capture: ContentCapture
    probe: NodeProbe
    preflight: Callable[[Path | None], tuple[Finding, ...]]
    health: Callable[[], HealthReport]
    posture: Callable[[], tuple[PostureFinding, ...]]
    egress: Callable[[], EgressReport]
    audit: AuditLog
    licenses: LicenseRegister
    compliance: Compliance
    usage: Callable[[], UsageReader]
    price_book: Callable[[], PriceBook]
    clock: Clock
    reports: SupportReports
    meter: DiskMeter | None = None
    sign_in: Callable[[], SignInSettings] = SignInSettings
    """Reads what the site decided about sign-in; raises ConfigInvalid. By default nobody has a team."""
    redaction_key: bytes = field(default_factory=lambda: os.urandom(32))
    """Under which names, serial numbers and addresses become pseudonyms; wiring gives one that lasts."""

    def facts(self, *, is_redacted: bool = False) -> NodeFacts:
        """Observe the node and measure its disks."""
        seen = measured(self.probe.facts(), self.meter)
        return redacted(seen, key=self.redaction_key) if is_redacted else seen

    def judged_preflight(self, medium: Path | None, judgement: Judgement, actor: Actor) -> tuple[Finding, ...]:
        """Ask all checks and judge them; what is waived is written to the audit log. Raises RequestInvalid."""
        findings = judged(self.preflight(medium), judgement)
        record_waivers(self.audit, findings, actor=actor, purpose=f"preflight {medium or 'without a medium'}")
        return findings

    def status(self, *, caller: str, roles: frozenset[Role]) -> NodeStatus:
        """Say who this is, what runs, and what is not real."""
        return NodeStatus(
            node=self.identity.node,
            appliance_version=self.identity.appliance_version,
            slot=self.identity.slot(),
            unfinished=self.operations.unfinished(),
            simulated=self.identity.simulated,
            caller=caller,
            roles=tuple(role for role in Role if role in roles),
        )

    def license_status(self) -> LicenseStatus:
        """Return the licence register and what follows from it now."""
        terms, attestations = self.licenses.terms(), self.licenses.attestations()
        return LicenseStatus(
            state=assess(terms, attestations, self.clock.now()), terms=terms, attestations=attestations
        )

    def costs(self, *, since: datetime | None, until: datetime | None) -> CostReport:
        """Price the use admitted from `since` to before `until`; raises LedgerUnavailable, ConfigInvalid."""
        by = (UsageDimension.MONTH, UsageDimension.TEAM, UsageDimension.MODEL)
        return cost_report(self.usage().sums(by, since=since, until=until), self.price_book())
