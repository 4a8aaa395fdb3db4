"""Typed calls over the management socket.

Every method raises the LeewardError that the daemon raised, and DaemonUnreachable where nobody
answers on the socket.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from appliance.client.answers import read_answer as _read
from appliance.client.capture import CaptureCalls
from appliance.client.engines import EngineCalls
from appliance.client.problems import error_from_problem
from appliance.client.tenants import TenantCalls
from appliance.domain.acceptance import PassportView
from appliance.domain.audit import AuditEntry
from appliance.domain.costs import CostReport
from appliance.domain.egress import EgressReport
from appliance.domain.errors import DaemonUnreachable
from appliance.domain.events import EventRecord, OperationCanceled, OperationFailed, OperationSucceeded
from appliance.domain.health import HealthReport
from appliance.domain.license import Attestation, LicenseStatus
from appliance.domain.node import NodeFacts
from appliance.domain.operation import OperationId, OperationKind
from appliance.domain.plan import PlanRecord
from appliance.domain.posture import PostureFinding
from appliance.domain.preflight import Finding
from appliance.domain.projection import OperationView
from appliance.domain.status import NodeStatus
from appliance.domain.usage import LedgerRow
from appliance.domain.usage_report import UsageDimension, UsageSum

T = TypeVar("T")

DEFAULT_SOCKET = Path("/run/leeward/management.sock")
SOCKET_VARIABLE = "LEEWARD_SOCKET"
ANSWER_TIMEOUT_S = 30.0
LONG_POLL_S = 20.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0


def socket_path() -> Path:
    """Return `$LEEWARD_SOCKET`, or the socket's place on a node."""
    return Path(os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)


class ApplianceClient(TenantCalls, EngineCalls, CaptureCalls):
    """A connection to the management daemon; use it as an async context manager."""

    def __init__(self, socket: Path | None = None) -> None:
        self.socket = socket or socket_path()
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self.socket)),
            base_url="http://leeward",
            timeout=ANSWER_TIMEOUT_S,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    # -- the node ------------------------------------------------------------------------------

    async def status(self) -> NodeStatus:
        """Say who answers and what runs."""
        return await self._get("/v1/status", NodeStatus)

    async def facts(self, *, redact: bool = False) -> NodeFacts:
        """Observe the node; redacted, names, serial numbers and addresses are pseudonyms."""
        return await self._get("/v1/facts", NodeFacts, **({"redact": "true"} if redact else {}))

    async def preflight(self, medium: str | None = None) -> tuple[Finding, ...]:
        """Ask all preflight checks, against the release on `medium` where one is named."""
        return await self._get("/v1/preflight", tuple[Finding, ...], **({"medium": medium} if medium else {}))

    async def judged_preflight(
        self, medium: str | None = None, *, strict: bool = False, waivers: Mapping[str, str] | None = None
    ) -> tuple[Finding, ...]:
        """Ask all preflight checks; raises RequestInvalid for a waiver that is not allowed, NotPermitted."""
        body = {"medium": medium, "strict": strict, "waivers": dict(waivers or {})}
        return _read(await self._ask("POST", "/v1/preflight", json=body), tuple[Finding, ...])

    async def health(self) -> HealthReport:
        """Return the node's health."""
        return await self._get("/v1/health", HealthReport)

    async def passports(self) -> tuple[PassportView, ...]:
        """Return every capacity passport of the node, newest first."""
        return await self._get("/v1/passports", tuple[PassportView, ...])

    async def posture(self) -> tuple[PostureFinding, ...]:
        """Measure the node against the compliance table."""
        return await self._get("/v1/posture", tuple[PostureFinding, ...])

    async def egress(self) -> EgressReport:
        """Look at what has tried to get out of the node."""
        return await self._get("/v1/egress", EgressReport)

    # -- operations ----------------------------------------------------------------------------

    async def start(self, kind: OperationKind, parameters: Mapping[str, str]) -> OperationView:
        """Start an operation; raises OperationConflict while another is unfinished."""
        body = {"kind": kind.value, "parameters": dict(parameters)}
        return _read(await self._ask("POST", "/v1/operations", json=body), OperationView)

    async def operations(self) -> tuple[OperationView, ...]:
        """Return operations, newest first."""
        return await self._get("/v1/operations", tuple[OperationView, ...])

    async def operation(self, operation_id: OperationId) -> OperationView:
        """Return one operation; raises NotFound."""
        return await self._get(f"/v1/operations/{operation_id}", OperationView)

    async def cancel(self, operation_id: OperationId) -> OperationView:
        """Ask an operation to stop at its next safe point."""
        return _read(await self._ask("POST", f"/v1/operations/{operation_id}/cancel"), OperationView)

    async def events(self, operation_id: OperationId, after: int = 0, wait_s: float = 0) -> tuple[EventRecord, ...]:
        """Return records after `after`; where there are none yet, wait up to `wait_s` for the next."""
        path = f"/v1/operations/{operation_id}/events"
        plain = await self._ask("GET", path, params={"after": after, "wait": wait_s}, timeout=ANSWER_TIMEOUT_S + wait_s)
        return _read(plain, tuple[EventRecord, ...])

    async def follow(
        self, operation_id: OperationId, after: int = 0, *, patience_s: float | None = None
    ) -> AsyncIterator[EventRecord]:
        """Yield each record after `after` once, until the operation has ended.

        Survives restarts of the daemon: connects again and goes on after the last record. Raises
        DaemonUnreachable only when nobody has answered for `patience_s`; `None` waits for ever.
        """
        pause_s, answered_at_s = FIRST_PAUSE_S, time.monotonic()
        while True:
            try:
                records = await self.events(operation_id, after=after, wait_s=LONG_POLL_S)
                if not records and await self._is_over(operation_id, after):
                    return
            except DaemonUnreachable:
                if patience_s is not None and time.monotonic() - answered_at_s > patience_s:
                    raise
                records = ()
            else:
                answered_at_s = time.monotonic()
            for record in records:
                if record.seq > after:
                    after = record.seq
                    yield record
            if records and isinstance(records[-1].event, OperationSucceeded | OperationFailed | OperationCanceled):
                return
            pause_s = FIRST_PAUSE_S if records else min(pause_s * 2, LONGEST_PAUSE_S)
            if not records:  # a stopping daemon answers at once with nothing
                await asyncio.sleep(pause_s)

    async def _is_over(self, operation_id: OperationId, after: int) -> bool:
        view = await self.operation(operation_id)
        return view.state.ended and view.last_seq <= after

    # -- plans -----------------------------------------------------------------------------------

    async def plan(self, digest: str) -> PlanRecord:
        """Return a plan; raises NotFound."""
        return await self._get(f"/v1/plans/{digest}", PlanRecord)

    async def approve_plan(self, digest: str) -> PlanRecord:
        """Approve another's plan; raises NotFound, NotPermitted."""
        return _read(await self._ask("POST", f"/v1/plans/{digest}/approval"), PlanRecord)

    # -- records -------------------------------------------------------------------------------

    async def audit(self, after: int = 0, limit: int = 1_000) -> tuple[AuditEntry, ...]:
        """Return audit entries after `after`, oldest first."""
        return await self._get("/v1/audit", tuple[AuditEntry, ...], after=after, limit=limit)

    async def audit_head(self) -> AuditEntry | None:
        """Return the newest audit entry."""
        plain = await self._ask("GET", "/v1/audit/head")
        return None if plain is None else _read(plain, AuditEntry)

    async def usage(self, after: int = 0, limit: int = 1_000) -> tuple[LedgerRow, ...]:
        """Return usage records after row `after`, oldest first."""
        return await self._get("/v1/usage", tuple[LedgerRow, ...], after=after, limit=limit)

    async def usage_sums(
        self, by: Sequence[UsageDimension], *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[UsageSum, ...]:
        """Sum usage by one or more dimensions, for requests admitted from `since` to before `until`."""
        dimensions = [one.value for one in by]
        return await self._get("/v1/usage/sums", tuple[UsageSum, ...], by=dimensions, **_span(since, until))

    async def costs(self, *, since: datetime | None = None, until: datetime | None = None) -> CostReport:
        """Price the use of a span of time; raises LedgerUnavailable, ConfigInvalid."""
        return await self._get("/v1/costs", CostReport, **_span(since, until))

    async def license(self) -> LicenseStatus:
        """Return licence terms, attestations and what follows from them."""
        return await self._get("/v1/license", LicenseStatus)

    async def attest(self, statement: Mapping[str, str]) -> Attestation:
        """Record a person's statement; fields as in `domain.license.Statement`. Raises RequestInvalid."""
        return _read(await self._ask("POST", "/v1/license/attestations", json=dict(statement)), Attestation)

    # -- the wire ------------------------------------------------------------------------------

    async def _get(self, path: str, as_type: type[T], **query: str | int | list[str]) -> T:
        return _read(await self._ask("GET", path, params=query), as_type)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401  JSON in, JSON out
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise DaemonUnreachable(
                detail=f"Nobody answers on {self.socket}: {error or type(error).__name__}.",
                remedy="Look at `systemctl status leewardd`, then start it with `systemctl start leewardd`.",
            ) from error
        if response.is_error:
            raise error_from_problem(_problem(response))
        return response.json() if response.content else None


def _span(since: datetime | None, until: datetime | None) -> dict[str, str]:
    return {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at is not None}


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        plain = response.json()
    except ValueError:
        plain = None
    if isinstance(plain, dict):
        return plain
    return {"code": f"http-{response.status_code}", "detail": response.text[:500], "remedy": ""}
