"""The fold from event records to a view: at least once, in order, bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.events import (
    CancelRequested,
    Event,
    EventRecord,
    FindingReported,
    LogLine,
    OperationFailed,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    Progressed,
    StepFinished,
    StepStarted,
    TaskFinished,
    TaskOutcome,
    TaskStarted,
    Unit,
)
from appliance.domain.operation import OperationId, OperationKind, OperationState, StepName, StepState
from appliance.domain.projection import LOG_LINES_KEPT, TASKS_KEPT, OperationView, fold, fold_all
from appliance.domain.wire import event_from_plain, event_to_plain, from_plain, to_plain

ID = OperationId("op-1")
BEGAN = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
STEPS = (StepName.PREFLIGHT, StepName.IMPORT)
STARTED = OperationStarted(kind=OperationKind.IMPORT, actor="j.doe", node="llm01", steps=STEPS)

steps = st.sampled_from(STEPS)
words = st.text(max_size=12)
events = st.one_of(
    st.builds(StepStarted, step=steps),
    st.builds(StepFinished, step=steps, summary=words),
    st.builds(
        Progressed,
        step=steps,
        label=words,
        done=st.integers(0, 10**12),
        total=st.integers(0, 10**12),
        unit=st.sampled_from(Unit),
    ),
    st.builds(TaskStarted, role=words, task=words),
    st.builds(TaskFinished, role=words, task=words, outcome=st.sampled_from(TaskOutcome), duration_s=st.floats(0, 99)),
    st.builds(
        FindingReported,
        check=words,
        outcome=words,
        blocking=st.booleans(),
        observed=words,
        required=words,
        remedy=words,
    ),
    st.builds(LogLine, text=words),
    st.builds(CancelRequested, actor=words),
    st.builds(OperationResumed, step=steps),
)
journals = st.lists(events, max_size=40)


def recorded(happened: list[Event]) -> list[EventRecord]:
    return [
        EventRecord(operation_id=ID, seq=place, at=BEGAN + timedelta(seconds=place), event=event)
        for place, event in enumerate([STARTED, *happened], start=1)
    ]


@given(journals, st.data())
def test_records_seen_again_change_nothing(happened: list[Event], data: st.DataObject) -> None:
    records = recorded(happened)
    cut = data.draw(st.integers(1, len(records)))
    again = data.draw(st.integers(0, cut))

    once = fold_all(None, records)
    twice = fold_all(fold_all(None, records[:cut]), records[again:])

    assert once == twice


@given(journals)
def test_a_view_goes_over_the_wire_and_back_unchanged(happened: list[Event]) -> None:
    view = fold_all(None, recorded(happened))

    assert view is not None
    assert from_plain(to_plain(view), OperationView) == view


@given(events)
def test_an_event_goes_over_the_wire_and_back_unchanged(event: Event) -> None:
    assert event_from_plain(event_to_plain(event)) == event


@given(journals)
def test_every_ended_task_is_counted(happened: list[Event]) -> None:
    view = fold_all(None, recorded(happened))

    assert view is not None
    assert view.task_counts.total == sum(isinstance(event, TaskFinished) for event in happened)
    assert view.last_seq == len(happened) + 1


def test_a_gap_in_the_sequence_is_refused() -> None:
    records = recorded([LogLine(text="one"), LogLine(text="two")])

    with pytest.raises(ValueError, match="does not follow"):
        fold_all(None, [records[0], records[2]])


def test_a_journal_that_does_not_open_with_its_start_is_refused() -> None:
    with pytest.raises(ValueError, match="opens with LogLine"):
        fold(None, EventRecord(operation_id=ID, seq=1, at=BEGAN, event=LogLine(text="one")))


def test_the_view_stays_bounded_and_goes_on_counting() -> None:
    tasks: list[Event] = [
        TaskFinished(role="os", task=f"task {n}", outcome=TaskOutcome.OK, duration_s=0.1) for n in range(300)
    ]
    lines: list[Event] = [LogLine(text=f"line {n}") for n in range(700)]

    view = fold_all(None, recorded(tasks + lines))

    assert view is not None
    assert len(view.tasks) == TASKS_KEPT
    assert view.task_counts.ok == 300
    assert len(view.log) == LOG_LINES_KEPT
    assert view.log[-1] == "line 699"


def test_a_task_that_ends_is_shown_once() -> None:
    view = fold_all(
        None,
        recorded(
            [
                TaskStarted(role="os", task="Packages are present"),
                TaskFinished(role="os", task="Packages are present", outcome=TaskOutcome.CHANGED, duration_s=2.0),
            ]
        ),
    )

    assert view is not None
    assert [(task.task, task.outcome) for task in view.tasks] == [("Packages are present", TaskOutcome.CHANGED)]
    assert view.tasks[0].started_at == BEGAN + timedelta(seconds=2)


def test_a_failure_marks_its_step_and_keeps_the_remedy() -> None:
    failed = OperationFailed(step=StepName.IMPORT, code="store-full", title="Full", detail="9 of 10", remedy="Free 1.")

    view = fold_all(
        None,
        recorded(
            [
                StepStarted(step=StepName.PREFLIGHT),
                StepFinished(step=StepName.PREFLIGHT, summary="fit"),
                StepStarted(step=StepName.IMPORT),
                failed,
            ]
        ),
    )

    assert view is not None
    assert view.state is OperationState.FAILED
    assert [step.state for step in view.steps] == [StepState.SUCCEEDED, StepState.FAILED]
    assert view.error is not None
    assert view.error.remedy == "Free 1."
    assert view.ended_at is not None


def test_success_ends_the_operation_and_leaves_no_current_step() -> None:
    happened: list[Event] = [
        event for name in STEPS for event in (StepStarted(step=name), StepFinished(step=name, summary="done"))
    ]

    view = fold_all(None, recorded([*happened, OperationSucceeded(summary="imported")]))

    assert view is not None
    assert view.state.ended
    assert view.current_step is None
