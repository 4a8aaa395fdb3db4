"""The management API's one route for the sign-in service: whom the site vouched for gets a key.

The service runs under an account of its own, which may do this and nothing else. Which team a group
stands for is decided here, so that even a sign-in service that was taken over makes keys for no
other team, and every one of them is in the audit log.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.domain.sign_in import MOST_GROUPS, Person, SignInMethod
from appliance.domain.usage import IssuedKey
from appliance.domain.wire import to_plain
from appliance.entrypoints.management.callers import ADMIN, Anyone, require
from appliance.services.management import Management
from appliance.services.sign_in import SignIns

ACCOUNT: Final = "leeward-sign-in"
"""The Unix account of the sign-in service."""


class SignInBody(BaseModel):
    """Whom the site vouched for, and for which team the key shall be."""

    model_config = ConfigDict(extra="forbid")

    method: SignInMethod
    account: str
    groups: Annotated[list[str], Field(max_length=MOST_GROUPS)]
    team: str | None = None


def sign_in_routes(management: Management) -> APIRouter:
    """Make the route."""
    routes = APIRouter()
    sign_ins = SignIns(
        settings=management.sign_in, keys=management.keys, audit=management.audit, clock=management.clock
    )

    @routes.post("/v1/sign-ins")
    def sign_in(body: SignInBody, caller: Anyone) -> Response:
        if caller.actor.name != ACCOUNT:
            require(caller, ADMIN)
        person = Person(method=body.method, account=body.account, groups=tuple(body.groups))
        key, secret = sign_ins.grant(person, team=body.team, uid=caller.actor.uid)
        return JSONResponse(to_plain(IssuedKey(key=key, secret=secret)), status_code=201)

    return routes
