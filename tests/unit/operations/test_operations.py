"""Operations: steps in order, failures that explain themselves, cancel, stop and resume."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag

import pytest

from appliance.domain.errors import NotFound, OperationConflict, PreflightBlocked, RequestInvalid
from appliance.domain.events import CancelRequested, OperationFailed, OperationStarted, StepFinished, StepStarted
from appliance.domain.operation import (
    STEPS,
    OperationId,
    OperationKind,
    OperationRequest,
    OperationState,
    StepName,
    StepState,
)
from appliance.services.steps import StepContext
from tests.unit.operations.world import ACTOR, IMPORT, TestStep, World, fine, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leeward.db"


@pytest.fixture
def world(path: Path) -> Iterator[World]:
    world = World(path)
    yield world
    world.close()


def test_an_operation_walks_its_steps_and_succeeds(world: World) -> None:
    operation_id = world.start()

    view = world.ended(operation_id)
    assert view.state is OperationState.SUCCEEDED
    assert [step.state for step in view.steps] == [StepState.SUCCEEDED] * 2
    assert world.names(operation_id) == [
        "OperationStarted", "StepStarted", "StepFinished", "StepStarted", "StepFinished", "OperationSucceeded",
    ]  # fmt: skip
    assert world.audited() == [("import", "started"), ("import", "succeeded")]
    assert world.operations.unfinished() is None


def test_a_failed_step_ends_the_operation_with_its_own_words_and_no_later_step_runs(path: Path) -> None:
    def refuse(_context: StepContext) -> str:
        raise PreflightBlocked(detail="2 of 4 GPUs", remedy="Seat the GPUs.")

    world = World(path, preflight=TestStep(refuse))

    view = world.ended(world.start())

    assert view.state is OperationState.FAILED
    assert view.error is not None
    assert (view.error.code, view.error.detail, view.error.remedy) == (
        "preflight-blocked",
        "2 of 4 GPUs",
        "Seat the GPUs.",
    )
    assert world.importing.runs == 0
    assert world.audited() == [("import", "started"), ("import", "failed")]
    world.close()


def test_what_nobody_foresaw_becomes_an_internal_error_with_a_support_report(path: Path) -> None:
    def stumble(_context: StepContext) -> str:
        raise ZeroDivisionError("by zero")

    world = World(path, importing=TestStep(stumble))

    view = world.ended(world.start())

    assert view.error is not None
    assert view.error.code == "internal-error"
    assert "ZeroDivisionError: by zero" in view.error.detail
    assert "/reports/" in view.error.detail
    assert len(world.reports.errors) == 1
    world.close()


def test_a_second_operation_is_refused_and_the_first_is_named(path: Path) -> None:
    go = Flag()
    world = World(path, importing=TestStep(lambda _context: str(go.wait(10))))
    operation_id = world.start()

    with pytest.raises(OperationConflict, match=operation_id):
        world.start()

    go.set()
    world.ended(operation_id)
    assert len(world.operations.views()) == 1
    world.close()


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        (OperationKind.IMPORT, {}, "medium is missing"),
        (OperationKind.IMPORT, {"medium": "usb"}, "medium is not an absolute path"),
        (OperationKind.PROVISION, {"medium": "/mnt/usb"}, "medium is unknown"),
    ],
)
def test_parameters_that_do_not_fit_start_nothing(
    world: World, kind: OperationKind, parameters: dict[str, str], said: str
) -> None:
    with pytest.raises(RequestInvalid, match=said):
        world.operations.start(OperationRequest(kind=kind, parameters=parameters), ACTOR)

    assert world.operations.views() == ()
    assert world.audited() == []


def wait_for_stop(context: StepContext) -> str:
    until(context.is_canceled)
    context.stop_if_canceled()
    return "never"


def test_cancel_stops_at_the_next_safe_point_and_says_who_asked(path: Path) -> None:
    world = World(path, preflight=TestStep(wait_for_stop))
    operation_id = world.start()

    world.operations.cancel(operation_id, ACTOR)
    world.operations.cancel(operation_id, ACTOR)

    view = world.ended(operation_id)
    assert view.state is OperationState.CANCELED
    assert view.steps[0].state is StepState.CANCELED
    assert world.importing.runs == 0
    assert [r.event for r in world.records(operation_id)].count(CancelRequested(actor="j.doe")) == 1
    assert world.audited() == [("import", "started"), ("import", "cancel-requested"), ("import", "canceled")]
    world.close()


def test_cancel_leaves_an_ended_operation_as_it_is(world: World) -> None:
    operation_id = world.start()
    before = world.ended(operation_id)

    assert world.operations.cancel(operation_id, ACTOR) == before
    with pytest.raises(NotFound):
        world.operations.cancel(OperationId("nobody"), ACTOR)


def test_a_stop_of_the_daemon_is_no_failure_and_the_next_daemon_goes_on_at_the_open_step(path: Path) -> None:
    first = World(path, importing=TestStep(wait_for_stop))
    operation_id = first.start()
    until(lambda: first.importing.runs == 1)

    first.close()

    second = World(path)
    with pytest.raises(OperationConflict):
        second.start()
    assert second.names(operation_id)[-1] == "StepStarted"
    second.operations.resume()
    view = second.ended(operation_id)
    assert view.state is OperationState.SUCCEEDED
    assert view.resumes == 1
    assert (second.preflight.runs, second.importing.runs) == (0, 1)
    assert second.audited() == [("import", "started"), ("import", "resumed"), ("import", "succeeded")]
    second.close()


def test_a_playbook_killed_by_the_same_stop_is_no_failure_either(path: Path) -> None:
    def die_with_the_system(context: StepContext) -> str:
        until(context.is_canceled)
        raise PreflightBlocked(detail="the child was killed", remedy="none")

    first = World(path, preflight=TestStep(die_with_the_system))
    operation_id = first.start()
    first.close()

    second = World(path)
    second.operations.resume()

    assert second.ended(operation_id).state is OperationState.SUCCEEDED
    second.close()


KILLED_AFTER = (
    (),
    (OperationStarted(kind=IMPORT.kind, actor="j.doe", node="llm01", steps=STEPS[IMPORT.kind]),),
    (StepStarted(step=StepName.PREFLIGHT),),
    (StepFinished(step=StepName.PREFLIGHT, summary="fit"), StepStarted(step=StepName.IMPORT)),
    (StepFinished(step=StepName.IMPORT, summary="imported"),),
)


@pytest.mark.parametrize("instant", range(len(KILLED_AFTER)))
def test_killed_at_any_instant_it_ends_well_and_no_finished_step_runs_again(path: Path, instant: int) -> None:
    dead = World(path)
    operation_id = OperationId("01-killed")
    dead.journal.create(operation_id, IMPORT, ACTOR, dead.operations._ports.clock.now())
    for event in sum(KILLED_AFTER[: instant + 1], ()):
        dead.journal.append(operation_id, event, dead.operations._ports.clock.now())
    dead.close()

    world = World(path)
    world.operations.resume()

    view = world.ended(operation_id)
    assert view.state is OperationState.SUCCEEDED
    assert world.preflight.runs == (1 if instant < 3 else 0)
    assert world.importing.runs == (1 if instant < 4 else 0)
    assert [outcome for _, outcome in world.audited()].count("succeeded") == 1
    world.close()


def test_killed_between_audit_and_journal_the_audit_log_says_it_once(path: Path) -> None:
    dead = World(path)
    operation_id = OperationId("01-killed")
    dead.journal.create(operation_id, IMPORT, ACTOR, dead.operations._ports.clock.now())
    dead.audit.append(actor="j.doe", action="import", object_=operation_id, outcome="started", details={})
    dead.close()

    world = World(path)
    world.operations.resume()
    world.ended(operation_id)

    assert [outcome for _, outcome in world.audited()] == ["started", "resumed", "succeeded"]
    world.close()


def test_a_cancel_asked_before_the_kill_holds_after_it(path: Path) -> None:
    first = World(path, importing=TestStep(wait_for_stop))
    operation_id = first.start()
    until(lambda: first.importing.runs == 1)
    first.close()
    first = World(path)
    first.operations.cancel(operation_id, ACTOR)
    first.close()

    world = World(path)
    world.operations.resume()

    assert world.ended(operation_id).state is OperationState.CANCELED
    assert world.importing.runs == 0
    world.close()


def test_a_step_that_a_kill_cut_gives_back_what_it_took_when_the_cancel_comes_before_the_resumption(path: Path) -> None:
    dead = World(path)
    operation_id = OperationId("01-killed")
    dead.journal.create(operation_id, IMPORT, ACTOR, dead.operations._ports.clock.now())
    for event in (*sum(KILLED_AFTER[:4], ()), CancelRequested(actor="j.doe")):
        dead.journal.append(operation_id, event, dead.operations._ports.clock.now())
    dead.close()
    world = World(path)

    world.operations.resume()

    assert world.ended(operation_id).state is OperationState.CANCELED
    assert world.names(operation_id)[-1] == "OperationCanceled"
    assert (world.preflight.undone, world.importing.undone) == (1, 1)
    assert (world.preflight.runs, world.importing.runs) == (0, 0)
    world.close()


def test_nothing_is_taken_back_of_a_step_that_never_began_nor_of_an_operation_that_succeeds(path: Path) -> None:
    world = World(path, preflight=TestStep(wait_for_stop))
    canceled = world.start()
    world.operations.cancel(canceled, ACTOR)
    world.ended(canceled)
    assert world.importing.undone == 0

    world.preflight.act = fine
    assert world.ended(world.start()).state is OperationState.SUCCEEDED

    assert (world.preflight.undone, world.importing.undone) == (1, 0)
    world.close()


def test_a_canceled_operation_that_cannot_give_back_what_it_took_has_failed_and_says_so(path: Path) -> None:
    def cannot(_context: StepContext) -> None:
        raise PreflightBlocked(detail="systemd does not answer", remedy="Start it by hand.")

    world = World(path, importing=TestStep(wait_for_stop, on_undo=cannot))
    operation_id = world.start()
    until(lambda: world.importing.runs == 1)

    world.operations.cancel(operation_id, ACTOR)

    view = world.ended(operation_id)
    assert view.state is OperationState.FAILED
    assert view.error is not None
    assert view.error.remedy == "Start it by hand."
    assert "import could not be taken back: systemd does not answer" in view.log[-1]
    assert world.preflight.undone == 1
    assert ("import", "canceled") not in world.audited()
    world.close()


def test_a_reader_that_waits_is_woken_by_the_next_event(path: Path) -> None:
    go = Flag()

    def wait_then_go_on(_context: StepContext) -> str:
        assert go.wait(10)
        return "done"

    world = World(path, importing=TestStep(wait_then_go_on))
    operation_id = world.start()
    until(lambda: world.importing.runs == 1)

    async def read() -> list[str]:
        seen = world.operations.view(operation_id).last_seq
        waiting = asyncio.create_task(world.operations.wait(operation_id, after=seen, timeout_s=10))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        go.set()
        return [type(record.event).__name__ for record in await waiting]

    assert asyncio.run(read())[0] == "StepFinished"
    world.ended(operation_id)
    world.close()


def test_a_reader_of_an_ended_operation_does_not_wait(world: World) -> None:
    view = world.ended(world.start())

    records = asyncio.run(asyncio.wait_for(world.operations.wait(view.id, after=view.last_seq, timeout_s=60), 5))

    assert records == []


def test_a_reader_does_not_hold_up_a_stop(path: Path) -> None:
    world = World(path, importing=TestStep(wait_for_stop))
    operation_id = world.start()
    until(lambda: world.importing.runs == 1)

    async def read() -> int:
        waiting = asyncio.create_task(
            world.operations.wait(operation_id, after=world.operations.view(operation_id).last_seq, timeout_s=60)
        )
        await asyncio.sleep(0.05)
        world.operations.begin_stop()
        return len(await asyncio.wait_for(waiting, 5))

    assert asyncio.run(read()) == 0
    world.close()


def test_a_failure_that_the_journal_holds_is_the_last_word(path: Path) -> None:
    def refuse(_context: StepContext) -> str:
        raise PreflightBlocked(detail="no", remedy="fix")

    first = World(path, preflight=TestStep(refuse))
    operation_id = first.start()
    first.ended(operation_id)
    first.close()

    second = World(path, preflight=TestStep(fine))

    assert second.operations.resume() is None
    assert isinstance(second.records(operation_id)[-1].event, OperationFailed)
    assert second.preflight.runs == 0
    second.close()
