"""The routes of the management API; docs/design.md lists them.

A route checks the role, calls one service and says the answer through `domain.wire`. Reading is for
every role; whoever has none may see the status and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from appliance.domain.errors import InternalError, LeewardError, NotFound, RequestInvalid
from appliance.domain.license import statement_from_json
from appliance.domain.operation import OperationId, OperationKind, OperationRequest
from appliance.domain.preflight import Judgement
from appliance.domain.status import Role
from appliance.domain.usage import LedgerRow
from appliance.domain.usage_report import UsageDimension
from appliance.domain.wire import to_plain
from appliance.entrypoints.management.callers import ADMIN, READING, Admin, Anyone, Reader, require
from appliance.entrypoints.management.capture import capture_routes
from appliance.entrypoints.management.engines import engine_routes
from appliance.entrypoints.management.peers import Caller, Peer, identify
from appliance.entrypoints.management.problems import problem
from appliance.entrypoints.management.sign_ins import sign_in_routes
from appliance.entrypoints.management.tenants import tenant_routes
from appliance.services.management import Management

LONGEST_WAIT_S = 60.0
MOST_ROWS = 10_000

WHO_MAY_START: dict[OperationKind, frozenset[Role]] = {
    OperationKind.INSTALL: ADMIN,
    OperationKind.IMPORT: ADMIN,
    OperationKind.PROVISION: ADMIN,
    OperationKind.EXPORT_EVIDENCE: frozenset({Role.ADMIN, Role.AUDITOR}),
    OperationKind.PLAN: ADMIN,
    OperationKind.UNINSTALL: ADMIN,
    OperationKind.ACCEPTANCE: ADMIN,
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StartBody(_Body):
    """What to start; parameters as in docs/design.md."""

    kind: OperationKind
    parameters: dict[str, Annotated[str, Field(max_length=65_536)]] = {}


class PreflightBody(_Body):
    """What to check against, and how to judge it; waiving is for administrators."""

    medium: str | None = None
    strict: bool = False
    waivers: dict[str, str] = {}


def create_app(management: Management, who: Callable[[Peer], Caller] = identify) -> FastAPI:
    """Make the application; `who` turns a connected process into a caller."""
    app = FastAPI(title="Leeward management API", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    app.state.who = who
    _add_errors(app, management)
    _add_node_routes(app, management)
    _add_operation_routes(app, management)
    _add_record_routes(app, management)
    _add_usage_routes(app, management)
    return app


After = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]
Dimensions = Annotated[list[UsageDimension], Query(min_length=1)]
Moment = AwareDatetime | None


def _say(value: Any, status: int = 200) -> JSONResponse:  # noqa: ANN401  any domain value
    return JSONResponse(to_plain(value), status_code=status)


def _add_node_routes(app: FastAPI, management: Management) -> None:
    @app.get("/v1/status")
    def status(caller: Anyone) -> Response:
        seen = management.status(caller=caller.actor.name, roles=caller.roles)
        return _say(seen)

    @app.get("/v1/facts", dependencies=READING)
    def facts(*, redact: bool = False) -> Response:
        return _say(management.facts(is_redacted=redact))

    @app.get("/v1/preflight", dependencies=READING)
    def preflight(medium: str | None = None) -> Response:
        return _say(management.preflight(Path(medium) if medium else None))

    @app.post("/v1/preflight")
    def judged_preflight(body: PreflightBody, caller: Reader) -> Response:
        if body.waivers:
            require(caller, ADMIN)
        parameters = {"strict": "true" if body.strict else "false", "waivers": json.dumps(body.waivers)}
        medium = Path(body.medium) if body.medium else None
        return _say(management.judged_preflight(medium, Judgement.of(parameters), caller.actor))

    @app.get("/v1/health", dependencies=READING)
    def health() -> Response:
        return _say(management.health())

    @app.get("/v1/passports", dependencies=READING)
    def passports() -> Response:
        return _say(management.passports.views())

    @app.get("/v1/posture", dependencies=READING)
    def posture() -> Response:
        return _say(management.posture())

    @app.get("/v1/egress", dependencies=READING)
    def egress() -> Response:
        return _say(management.egress())


def _add_operation_routes(app: FastAPI, management: Management) -> None:
    operations = management.operations

    @app.post("/v1/operations")
    def start(body: StartBody, caller: Reader) -> Response:
        require(caller, WHO_MAY_START[body.kind])
        request = OperationRequest(kind=body.kind, parameters=body.parameters)
        return _say(operations.start(request, caller.actor), status=202)

    @app.get("/v1/plans/{digest}", dependencies=READING)
    def plan(digest: str) -> Response:
        return _say(management.plans.show(digest))

    @app.post("/v1/plans/{digest}/approval")
    def approve(digest: str, caller: Admin) -> Response:
        return _say(management.plans.approve(digest, caller.actor), status=201)

    @app.get("/v1/operations", dependencies=READING)
    def listed(limit: Limit = 100) -> Response:
        return _say(operations.views(limit))

    @app.get("/v1/operations/{operation_id}", dependencies=READING)
    def shown(operation_id: str) -> Response:
        return _say(operations.view(OperationId(operation_id)))

    @app.get("/v1/operations/{operation_id}/events", dependencies=READING)
    async def events(
        operation_id: str,
        after: After = 0,
        wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0,
        limit: Limit = 1_000,
    ) -> Response:
        return _say(await operations.wait(OperationId(operation_id), after=after, timeout_s=wait, limit=limit))

    @app.post("/v1/operations/{operation_id}/cancel")
    def cancel(operation_id: str, caller: Reader) -> Response:
        view = operations.view(OperationId(operation_id))
        require(caller, WHO_MAY_START[view.kind])
        return _say(operations.cancel(view.id, caller.actor), status=202)


def _add_record_routes(app: FastAPI, management: Management) -> None:
    @app.get("/v1/audit", dependencies=READING)
    def audit(after: After = 0, limit: Limit = 1_000) -> Response:
        return _say(management.audit.entries(after, limit))

    @app.get("/v1/audit/head", dependencies=READING)
    def audit_head() -> Response:
        return _say(management.audit.head())

    @app.get("/v1/license", dependencies=READING)
    def license_status() -> Response:
        return _say(management.license_status())

    @app.post("/v1/license/attestations")
    def attest(body: dict[str, str], caller: Admin) -> Response:
        statement = statement_from_json(json.dumps(body), month_of=management.clock.now())
        return _say(management.compliance.attest(statement, caller.actor), status=201)


def _add_usage_routes(app: FastAPI, management: Management) -> None:
    @app.get("/v1/usage", dependencies=READING)
    def usage(after: After = 0, limit: Limit = 1_000) -> Response:
        rows = management.usage().records(after, limit)
        return _say([LedgerRow(row=row, record=record) for row, record in rows])

    @app.get("/v1/usage/sums", dependencies=READING)
    def usage_sums(by: Dimensions, since: Moment = None, until: Moment = None) -> Response:
        return _say(management.usage().sums(tuple(dict.fromkeys(by)), since=since, until=until))

    @app.get("/v1/costs", dependencies=READING)
    def costs(since: Moment = None, until: Moment = None) -> Response:
        return _say(management.costs(since=since, until=until))

    app.include_router(tenant_routes(management))
    app.include_router(engine_routes(management.engines))
    app.include_router(sign_in_routes(management))
    app.include_router(capture_routes(management.capture))


def _add_errors(app: FastAPI, management: Management) -> None:
    @app.exception_handler(LeewardError)
    def foreseen(_request: Request, error: LeewardError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
        remedy = "Correct the request; /v1/openapi.json describes it."
        return problem(RequestInvalid(detail=wrong, remedy=remedy))

    @app.exception_handler(HTTPException)
    def no_such_route(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path}: {error.detail}."
        remedy = "/v1/openapi.json lists the routes of this appliance."
        found = NotFound(detail=detail, remedy=remedy) if error.status_code == 404 else None  # noqa: PLR2004  HTTP's number
        return problem(found or RequestInvalid(detail=detail, remedy=remedy))

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> Response:
        where = management.reports.write(error, management.clock.now())
        detail = f"{request.method} {request.url.path} met {type(error).__name__}: {error}. {where}"
        return problem(InternalError(detail=detail, remedy="Send the support report to the makers of Leeward."))
