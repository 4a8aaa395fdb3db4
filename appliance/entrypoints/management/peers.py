"""Who is at the other end of the socket: the kernel's word, not the caller's.

SO_PEERCRED (unix(7)) gives process, user and group at the time of connect. Roles follow from Unix
groups, looked up at each request, so that a change of membership holds at once. Root, and the
account that the daemon itself runs as, have every role.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.domain.operation import Actor
from appliance.domain.status import Role

_UCRED = struct.Struct("3i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A connected process, as the kernel saw it connect."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and what they may do."""

    actor: Actor
    roles: frozenset[Role]


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol that puts the peer into each request's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Ask the kernel who connected."""
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        self.app_state = {**self.app_state, "peer": Peer(pid=pid, uid=uid, gid=gid)}


def identify(peer: Peer) -> Caller:
    """Name the account and look up its roles."""
    if peer.uid in {0, os.geteuid()}:
        return Caller(actor=Actor(name=_account(peer.uid), uid=peer.uid), roles=frozenset(Role))
    name = _account(peer.uid)
    groups = _groups(name, peer.gid)
    return Caller(actor=Actor(name=name, uid=peer.uid), roles=frozenset(role for role in Role if role.group in groups))


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _groups(name: str, gid: int) -> set[str]:
    try:
        numbers = os.getgrouplist(name, gid)
    except OSError:
        numbers = [gid]
    names = set()
    for number in numbers:
        with suppress(KeyError):  # a group without a name gives no role
            names.add(grp.getgrgid(number).gr_name)
    return names
