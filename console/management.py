"""What the console needs of the management daemon; `appliance.client.ApplianceClient` satisfies it.

Every method may raise a LeewardError; DaemonUnreachable where nobody answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from appliance.domain.events import EventRecord
from appliance.domain.health import HealthReport
from appliance.domain.operation import OperationId, OperationKind
from appliance.domain.preflight import Finding
from appliance.domain.projection import OperationView
from appliance.domain.status import NodeStatus


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
