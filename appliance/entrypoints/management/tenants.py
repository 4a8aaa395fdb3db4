"""The management API's routes for teams, keys and quotas."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from appliance.domain.errors import RequestInvalid
from appliance.domain.quotas import MOST, QuotaKind, Scope
from appliance.domain.tenancy import SITE_ENTITY, HolderKind, KeyTerms, Priority
from appliance.domain.usage import IssuedKey
from appliance.domain.wire import to_plain
from appliance.entrypoints.management.callers import READING, Admin
from appliance.services.management import Management

LONGEST_OVERLAP_S = 90 * 86_400


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KeyBody(_Body):
    """Whose key to make, and what it is good for; nothing said means no limit."""

    team: str
    name: str
    holder: str | None = None
    holder_kind: HolderKind | None = None
    expires_at: AwareDatetime | None = None
    models: Annotated[list[str], Field(max_length=100)] = []
    networks: Annotated[list[str], Field(max_length=100)] = []

    def terms(self) -> KeyTerms:
        """Read the terms; raises RequestInvalid."""
        try:
            return KeyTerms(
                holder=self.holder,
                holder_kind=self.holder_kind,
                expires_at=self.expires_at,
                models=tuple(self.models),
                networks=tuple(self.networks),
            )
        except ValueError as error:
            raise RequestInvalid(detail=str(error), remedy="Networks are written like 10.1.0.0/16.") from error


class RotationBody(_Body):
    """For how many seconds the old key goes on beside the new one."""

    overlap_s: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_S)] = 0


class TeamBody(_Body):
    """What holds for a team from now on."""

    entity: str = SITE_ENTITY
    priority: Priority = Priority.STANDARD


class QuotaBody(_Body):
    """A limit; no amount lifts it."""

    scope: Scope
    subject: str
    kind: QuotaKind
    amount: Annotated[int, Field(ge=0, le=MOST)] | None


def tenant_routes(management: Management) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()
    _add_key_routes(routes, management)

    @routes.get("/v1/teams", dependencies=READING)
    def teams() -> Response:
        return JSONResponse(to_plain(management.tenancy.teams()))

    @routes.put("/v1/teams/{name}")
    def set_team(name: str, body: TeamBody, caller: Admin) -> Response:
        team = management.tenancy.set_team(name, entity=body.entity, priority=body.priority, actor=caller.actor)
        return JSONResponse(to_plain(team))

    @routes.get("/v1/quotas", dependencies=READING)
    def quotas() -> Response:
        return JSONResponse(to_plain(management.tenancy.quotas()))

    @routes.put("/v1/quotas")
    def set_quota(body: QuotaBody, caller: Admin) -> Response:
        management.tenancy.set_quota(body.scope, body.subject, body.kind, amount=body.amount, actor=caller.actor)
        return Response(status_code=204)

    return routes


def _add_key_routes(routes: APIRouter, management: Management) -> None:
    @routes.get("/v1/keys", dependencies=READING)
    def keys() -> Response:
        return JSONResponse(to_plain(management.keys.list()))

    @routes.post("/v1/keys")
    def issue(body: KeyBody, caller: Admin) -> Response:
        key, secret = management.keys.create(name=body.name, team=body.team, actor=caller.actor, terms=body.terms())
        return JSONResponse(to_plain(IssuedKey(key=key, secret=secret)), status_code=201)

    @routes.post("/v1/keys/{key_id}/rotate")
    def rotate(key_id: str, body: RotationBody, caller: Admin) -> Response:
        overlap = timedelta(seconds=body.overlap_s)
        key, secret = management.keys.rotate(key_id, overlap=overlap, actor=caller.actor)
        return JSONResponse(to_plain(IssuedKey(key=key, secret=secret)), status_code=201)

    @routes.delete("/v1/keys/{key_id}")
    def revoke(key_id: str, caller: Admin) -> Response:
        management.keys.revoke(key_id, caller.actor)
        return Response(status_code=204)
