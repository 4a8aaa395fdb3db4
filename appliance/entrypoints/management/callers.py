"""Who asks, and whether they may: what the routes depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from appliance.domain.errors import NotPermitted
from appliance.domain.status import Role
from appliance.entrypoints.management.peers import Caller, Peer

ADMIN = frozenset({Role.ADMIN})
ANYONE_WITH_A_ROLE = frozenset(Role)


def require(caller: Caller, roles: frozenset[Role]) -> None:
    """Raise NotPermitted, which names the role that is missing."""
    if caller.roles & roles:
        return
    groups = " or ".join(role.group for role in Role if role in roles)
    raise NotPermitted(
        detail=f"{caller.actor.name} is not in group {groups}.",
        remedy=f"Ask an administrator of the node: `usermod -aG {next(r.group for r in Role if r in roles)} NAME`.",
    )


def asking(request: Request) -> Caller:
    """Turn the connected process into a caller."""
    who: Callable[[Peer], Caller] = request.app.state.who
    return who(request.state.peer)


def asking_with_a_role(request: Request) -> Caller:
    """Let in whoever has any role."""
    caller = asking(request)
    require(caller, ANYONE_WITH_A_ROLE)
    return caller


def asking_as_admin(request: Request) -> Caller:
    """Let in administrators only."""
    caller = asking(request)
    require(caller, ADMIN)
    return caller


Anyone = Annotated[Caller, Depends(asking)]
Reader = Annotated[Caller, Depends(asking_with_a_role)]
Admin = Annotated[Caller, Depends(asking_as_admin)]
READING = [Depends(asking_with_a_role)]
