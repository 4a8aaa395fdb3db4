"""Who may do what: the kernel names the caller, Unix groups give the role, a refusal names what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

import pytest

from appliance.client import ApplianceClient
from appliance.domain.errors import NotPermitted
from appliance.domain.operation import OperationKind
from appliance.domain.status import Role
from tests.api.conftest import DaemonProcess

EXPORT = (OperationKind.EXPORT_EVIDENCE, {"destination": "/mnt/out"})
INSTALL = (OperationKind.INSTALL, {"medium": "/mnt/usb"})
Ask = Callable[[ApplianceClient], Awaitable[object]]

READS: tuple[Ask, ...] = (
    lambda client: client.operations(),
    lambda client: client.audit(),
    lambda client: client.audit_head(),
    lambda client: client.usage(),
    lambda client: client.license(),
    lambda client: client.keys(),
    lambda client: client.preflight(),
)
ADMIN_ACTS: tuple[Ask, ...] = (
    lambda client: client.start(*INSTALL),
    lambda client: client.start(OperationKind.IMPORT, {"medium": "/mnt/usb"}),
    lambda client: client.start(OperationKind.PROVISION, {}),
    lambda client: client.create_key(team="t", name="n"),
    lambda client: client.revoke_key("k"),
    lambda client: client.attest({}),
)


async def test_the_account_that_connects_is_the_actor(client: ApplianceClient) -> None:
    status = await client.status()

    assert status.roles == tuple(Role)  # the daemon's own account
    begun = await client.start(*EXPORT)
    assert begun.actor == status.caller
    assert (await client.audit())[0].actor == status.caller
    await client.cancel(begun.id)


async def test_without_a_role_one_sees_the_status_and_nothing_else(
    daemon: DaemonProcess, client: ApplianceClient
) -> None:
    daemon.roles("")

    assert (await client.status()).roles == ()
    for ask in (*READS, *ADMIN_ACTS):
        with pytest.raises(NotPermitted, match="leeward-admin"):
            await ask(client)

    daemon.roles("auditor")
    assert await client.operations() == ()
    assert await client.audit() == ()


@pytest.mark.parametrize("role", ["operator", "auditor"])
async def test_only_an_administrator_changes_the_node(
    daemon: DaemonProcess, client: ApplianceClient, role: str
) -> None:
    daemon.roles(role)

    for ask in READS:
        await ask(client)
    for ask in ADMIN_ACTS:
        with pytest.raises(NotPermitted, match="not in group leeward-admin") as refused:
            await ask(client)
        assert "usermod -aG leeward-admin" in refused.value.remedy

    assert await client.operations() == ()
    assert await client.keys() == ()


async def test_an_auditor_exports_evidence_and_an_operator_does_not(
    daemon: DaemonProcess, client: ApplianceClient
) -> None:
    daemon.roles("operator")
    with pytest.raises(NotPermitted, match="leeward-admin or leeward-auditor"):
        await client.start(*EXPORT)

    daemon.roles("auditor")
    begun = await client.start(*EXPORT)

    daemon.roles("operator")
    with pytest.raises(NotPermitted):
        await client.cancel(begun.id)
    assert not (await client.operation(begun.id)).cancel_requested


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
async def test_another_account_is_told_apart_by_the_kernel(daemon: DaemonProcess) -> None:
    daemon.root.chmod(0o755)
    code = (  # everything is imported first: the account may not be able to read this machine's Python
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX);"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "s.connect(sys.argv[1]); s.sendall(b'GET /v1/status HTTP/1.0\\r\\n\\r\\n');"
        "sys.stdout.write(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(daemon.socket), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 30)

    seen = json.loads(printed.decode().partition("\r\n\r\n")[2])
    assert (seen["caller"], seen["roles"]) == ("nobody", [])
