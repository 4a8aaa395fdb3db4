"""An operation as lines for people: what is said, what is left out, and in ASCII only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from appliance.domain.events import (
    Event,
    EventRecord,
    FindingReported,
    LogLine,
    OperationFailed,
    OperationStarted,
    OperationSucceeded,
    Progressed,
    StepFinished,
    StepStarted,
    TaskFinished,
    TaskOutcome,
    Unit,
)
from appliance.domain.operation import OperationId, OperationKind, StepName
from appliance.entrypoints.cli.following import LinePrinter, amount

ID = OperationId("op-1")
BEGAN = datetime(2026, 11, 24, 8, tzinfo=UTC)
STARTED = OperationStarted(kind=OperationKind.IMPORT, actor="j.doe", node="llm01", steps=(StepName.IMPORT,))


def records(*events: Event, every_s: float = 1) -> list[EventRecord]:
    return [
        EventRecord(operation_id=ID, seq=place, at=BEGAN + timedelta(seconds=every_s * place), event=event)
        for place, event in enumerate([STARTED, *events], start=1)
    ]


def printed(*events: Event, every_s: float = 1) -> list[str]:
    printer = LinePrinter()
    return [line for record in records(*events, every_s=every_s) for line in printer.lines(record)]


def progressed(done: int) -> Progressed:
    return Progressed(step=StepName.IMPORT, label="weights", done=done, total=134_000_000_000, unit=Unit.BYTES)


def test_a_success_reads_from_start_to_summary() -> None:
    lines = printed(
        StepStarted(step=StepName.IMPORT),
        StepFinished(step=StepName.IMPORT, summary="134.0 GB verified"),
        OperationSucceeded(summary="134.0 GB verified"),
    )

    assert lines == [
        "import on llm01, started by j.doe",
        "  Verify and import the release",
        "    done: 134.0 GB verified",
        "import succeeded after 3 s: 134.0 GB verified",
    ]


def test_progress_comes_every_five_seconds_however_often_it_is_told() -> None:
    lines = printed(*[progressed(n * 10**9) for n in range(100)], every_s=0.25)

    assert len(lines) == 1 + 5
    assert lines[1] == "    0.00 of 134.00 GB (0 %)  weights"


def test_what_is_fine_is_not_said_and_what_blocks_is_said_with_its_remedy() -> None:
    def finding(outcome: str, *, blocking: bool) -> FindingReported:
        return FindingReported(
            check="memory",
            outcome=outcome,
            blocking=blocking,
            observed="1 GiB",
            required="64 GiB",
            remedy="Add memory.",
        )

    assert len(printed(finding("pass", blocking=False))) == 1
    assert printed(finding("fail", blocking=True))[1:] == [
        "    BLOCKS  memory: found 1 GiB, required 64 GiB",
        "            Add memory.",
    ]


def test_only_tasks_that_changed_or_failed_are_said() -> None:
    tasks = [TaskFinished(role="os", task=o.value, outcome=o, duration_s=1.5) for o in TaskOutcome]

    assert printed(*tasks)[1:] == ["    changed  os: changed (1.5 s)", "    failed   os: failed (1.5 s)"]


def test_a_record_that_comes_twice_is_said_once() -> None:
    printer = LinePrinter()
    once = [line for record in records(LogLine(text="hello")) for line in printer.lines(record)]

    again = [line for record in records(LogLine(text="hello")) for line in printer.lines(record)]

    assert once[-1] == "    hello"
    assert again == []


def test_a_failure_is_closed_without_its_error_which_is_said_by_itself() -> None:
    failed = OperationFailed(step=StepName.IMPORT, code="store-full", title="Full", detail="9 of 10", remedy="Free it.")

    assert printed(failed)[-1] == "import failed after 1 s"


def test_amounts_have_their_units() -> None:
    tasks = Progressed(step=StepName.PROVISION, label="os", done=3, total=12, unit=Unit.TASKS)

    assert amount(tasks) == "3 of 12 tasks (25 %)"
    assert amount(progressed(67_000_000_000)) == "67.00 of 134.00 GB (50 %)"


def test_every_line_can_go_over_a_serial_line() -> None:
    lines = printed(StepStarted(step=StepName.IMPORT), progressed(5), OperationSucceeded(summary="done"))

    assert all(line.isascii() for line in lines)
