"""What the console needs of the management daemon; `appliance.client.ApplianceClient` satisfies it.

Every method may raise a LeewardError; DaemonUnreachable where nobody answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from appliance.domain.acceptance import PassportView
from appliance.domain.costs import CostReport
from appliance.domain.egress import EgressReport
from appliance.domain.events import EventRecord
from appliance.domain.health import HealthReport
from appliance.domain.operation import OperationId, OperationKind
from appliance.domain.posture import PostureFinding
from appliance.domain.preflight import Finding
from appliance.domain.projection import OperationView
from appliance.domain.quotas import QuotaKind, QuotaUse, Scope
from appliance.domain.status import NodeStatus
from appliance.domain.tenancy import HolderKind, Priority, Team
from appliance.domain.usage import ApiKey, IssuedKey
from appliance.domain.usage_report import UsageDimension, UsageSum


class Management(Protocol):
    """The management API as the console uses it."""

    async def status(self) -> NodeStatus: ...

    async def health(self) -> HealthReport: ...

    async def preflight(self, medium: str | None = None) -> tuple[Finding, ...]: ...

    async def operations(self) -> tuple[OperationView, ...]: ...

    async def start(self, kind: OperationKind, parameters: Mapping[str, str]) -> OperationView: ...

    def follow(
        self, operation_id: OperationId, after: int = 0, *, patience_s: float | None = None
    ) -> AsyncIterator[EventRecord]:
        """Yield event records from `after` on until the operation has ended.

        Raises DaemonUnreachable when nobody has answered for `patience_s`.
        """
        ...

    async def cancel(self, operation_id: OperationId) -> OperationView: ...

    async def usage_sums(
        self, by: Sequence[UsageDimension], *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[UsageSum, ...]: ...

    async def costs(self, *, since: datetime | None = None, until: datetime | None = None) -> CostReport: ...

    async def teams(self) -> tuple[Team, ...]: ...

    async def keys(self) -> tuple[ApiKey, ...]: ...

    async def quotas(self) -> tuple[QuotaUse, ...]: ...

    async def create_key(
        self,
        *,
        team: str,
        name: str,
        holder: str | None = None,
        holder_kind: HolderKind | None = None,
        expires_at: datetime | None = None,
    ) -> IssuedKey: ...

    async def rotate_key(self, key_id: str) -> IssuedKey: ...

    async def revoke_key(self, key_id: str) -> None: ...

    async def set_team(self, name: str, *, entity: str, priority: Priority) -> Team: ...

    async def set_quota(self, scope: Scope, subject: str, kind: QuotaKind, amount: int | None) -> None: ...

    async def passports(self) -> tuple[PassportView, ...]: ...

    async def posture(self) -> tuple[PostureFinding, ...]: ...

    async def egress(self) -> EgressReport: ...
