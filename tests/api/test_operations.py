"""Operations of a real daemon process: killed, stopped, canceled, followed."""

from __future__ import annotations

import asyncio
import sys
import time

import httpx
import pytest

from appliance.client import ApplianceClient
from appliance.domain.audit import first_broken
from appliance.domain.errors import DaemonUnreachable, NotFound, OperationConflict, RequestInvalid
from appliance.domain.operation import OperationId, OperationKind, OperationState
from appliance.domain.projection import OperationView, fold
from tests.api.conftest import DaemonProcess

MEDIUM = {"medium": "/mnt/usb"}


async def followed(client: ApplianceClient, operation_id: OperationId) -> OperationView:
    view: OperationView | None = None
    async for record in client.follow(operation_id):
        view = fold(view, record)  # refuses a gap, so this also proves that none was lost
    assert view is not None
    return view


async def test_an_operation_runs_to_its_end_and_can_be_followed(daemon: DaemonProcess, client: ApplianceClient) -> None:
    daemon.let("preflight")
    daemon.let("import")

    begun = await client.start(OperationKind.IMPORT, MEDIUM)
    view = await followed(client, begun.id)

    assert view.state is OperationState.SUCCEEDED
    assert view == await client.operation(begun.id)
    assert [v.id for v in await client.operations()] == [begun.id]
    assert (await client.status()).unfinished is None
    assert [(e.object, e.outcome) for e in await client.audit()] == [(begun.id, "started"), (begun.id, "succeeded")]


async def test_killed_in_a_step_the_next_daemon_ends_the_operation_well(
    daemon: DaemonProcess, client: ApplianceClient
) -> None:
    daemon.let("preflight")
    begun = await client.start(OperationKind.IMPORT, MEDIUM)
    following = asyncio.create_task(followed(client, begun.id))
    await asyncio.to_thread(daemon.until, lambda: daemon.runs("import") == 1)

    daemon.kill()
    await asyncio.to_thread(daemon.start)
    with pytest.raises(OperationConflict, match=begun.id):
        await client.start(OperationKind.IMPORT, MEDIUM)
    daemon.let("import")
    view = await asyncio.wait_for(following, 30)

    assert view.state is OperationState.SUCCEEDED
    assert view.resumes == 1
    assert (daemon.runs("preflight"), daemon.runs("import")) == (1, 2)
    entries = await client.audit()
    assert [entry.outcome for entry in entries] == ["started", "resumed", "succeeded"]
    assert first_broken(list(entries)) is None


async def test_a_stop_leaves_the_operation_to_the_next_daemon_and_does_not_wait_for_followers(
    daemon: DaemonProcess, client: ApplianceClient
) -> None:
    daemon.let("preflight")
    begun = await client.start(OperationKind.IMPORT, MEDIUM)
    following = asyncio.create_task(followed(client, begun.id))
    await asyncio.to_thread(daemon.until, lambda: daemon.runs("import") == 1)

    began_s = time.monotonic()
    status = await asyncio.to_thread(daemon.stop)

    assert status == 0
    assert time.monotonic() - began_s < 8
    assert not daemon.socket.exists()
    daemon.let("import")
    await asyncio.to_thread(daemon.start)
    view = await asyncio.wait_for(following, 30)
    assert view.state is OperationState.SUCCEEDED
    assert view.error is None


async def test_cancel_stops_the_step_and_the_next_operation_may_start(
    daemon: DaemonProcess, client: ApplianceClient
) -> None:
    begun = await client.start(OperationKind.IMPORT, MEDIUM)
    await asyncio.to_thread(daemon.until, lambda: daemon.runs("preflight") == 1)

    asked = await client.cancel(begun.id)
    view = await asyncio.wait_for(followed(client, begun.id), 10)

    assert asked.cancel_requested
    assert view.state is OperationState.CANCELED
    assert daemon.runs("import") == 0
    assert (await client.start(OperationKind.PROVISION, {})).state is OperationState.RUNNING


async def test_a_failure_and_a_bug_both_say_what_to_do(daemon: DaemonProcess, client: ApplianceClient) -> None:
    daemon.let("preflight", "fail")
    refused = await followed(client, (await client.start(OperationKind.IMPORT, MEDIUM)).id)
    (daemon.root / "preflight.fail").unlink()
    daemon.let("preflight", "bug")
    broken = await followed(client, (await client.start(OperationKind.IMPORT, MEDIUM)).id)

    assert refused.error is not None
    assert (refused.error.code, refused.error.remedy) == ("preflight-blocked", "Remove the file.")
    assert broken.error is not None
    assert broken.error.code == "internal-error"
    assert "support report is" in broken.error.detail


async def test_a_long_poll_waits_for_the_next_event_and_no_longer(
    daemon: DaemonProcess, client: ApplianceClient
) -> None:
    begun = await client.start(OperationKind.IMPORT, MEDIUM)
    await asyncio.to_thread(daemon.until, lambda: daemon.runs("preflight") == 1)
    seen = (await client.operation(begun.id)).last_seq

    began_s = time.monotonic()
    nothing = await client.events(begun.id, after=seen + 99, wait_s=0.4)
    waited_s = time.monotonic() - began_s
    polling = asyncio.create_task(client.events(begun.id, after=seen + 1, wait_s=30))
    await asyncio.sleep(0.1)
    daemon.let("preflight")
    records = await asyncio.wait_for(polling, 10)

    assert nothing == ()
    assert 0.4 <= waited_s < 5
    assert records[0].seq == seen + 2


async def test_requests_that_break_the_schema_are_named_and_start_nothing(client: ApplianceClient) -> None:
    with pytest.raises(RequestInvalid, match="medium is missing"):
        await client.start(OperationKind.IMPORT, {})
    with pytest.raises(NotFound):
        await client.operation(OperationId("nobody"))

    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(client.socket)), base_url="http://leeward"
    ) as raw:
        answers = [
            await raw.post("/v1/operations", json={"kind": "dance", "parameters": {}}),
            await raw.post("/v1/operations", json={"kind": "provision", "parameters": {}, "surprise": 1}),
            await raw.get("/v1/operations", params={"limit": -1}),
            await raw.get("/v1/nowhere"),
        ]

    assert [answer.status_code for answer in answers] == [422, 422, 422, 404]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["remedy"]
    assert await client.operations() == ()


async def test_a_bug_in_a_route_is_an_internal_error_and_the_daemon_lives_on(client: ApplianceClient) -> None:
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(client.socket)), base_url="http://leeward"
    ) as raw:
        answer = await raw.get("/v1/health")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert "support report is" in answer.json()["detail"]
    assert (await client.status()).node == "llm01"


async def test_a_daemon_that_is_not_there_is_said_so(daemon: DaemonProcess, client: ApplianceClient) -> None:
    daemon.kill()

    with pytest.raises(DaemonUnreachable, match=r"management\.sock"):
        await client.status()
    with pytest.raises(DaemonUnreachable):
        async for _record in client.follow(OperationId("x"), patience_s=0.3):
            pass


async def test_a_second_daemon_on_the_same_state_refuses_to_start(
    daemon: DaemonProcess, client: ApplianceClient
) -> None:
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.api.daemon", str(daemon.root), stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(second.communicate(), 30)

    assert second.returncode != 0
    assert b"Another management daemon" in said
    assert (await client.status()).node == "llm01"
