"""Everything that the management API can be asked, in one value that wiring makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.domain.health import HealthReport
from appliance.domain.license import LicenseStatus, assess
from appliance.domain.preflight import Finding
from appliance.domain.status import NodeStatus, Role
from appliance.ports import AuditLog, Clock, LicenseRegister, NodeProbe, SupportReports, UsageReader
from appliance.services.compliance import Compliance
from appliance.services.keys import Keys
from appliance.services.operations import Operations


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """What the daemon knows of itself; `slot` reads which release is current."""

    node: str
    appliance_version: str
    simulated: tuple[str, ...]
    slot: Callable[[], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Management:
    """The services behind the management API. `usage` raises LedgerUnavailable before there is a ledger."""

    identity: NodeIdentity
    operations: Operations
    keys: Keys
    probe: NodeProbe
    preflight: Callable[[Path | None], tuple[Finding, ...]]
    health: Callable[[], HealthReport]
    audit: AuditLog
    licenses: LicenseRegister
    compliance: Compliance
    usage: Callable[[], UsageReader]
    clock: Clock
    reports: SupportReports

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
