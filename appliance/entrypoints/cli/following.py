"""An operation as lines: what is printed after each event record. Pure; ASCII only, for serial lines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from appliance.domain.events import (
    CancelRequested,
    Event,
    EventRecord,
    EvidenceWritten,
    FindingReported,
    LogLine,
    OperationResumed,
    OperationStarted,
    Progressed,
    StepFinished,
    StepStarted,
    TaskFinished,
    TaskOutcome,
    Unit,
)
from appliance.domain.operation import OperationState
from appliance.domain.projection import STEP_TITLES, OperationView, fold

PROGRESS_INTERVAL = timedelta(seconds=5)


class LinePrinter:
    """Folds records and says in lines what is new; progress at most every five seconds."""

    def __init__(self) -> None:
        self.view: OperationView | None = None
        self._progress_at: datetime | None = None

    def lines(self, record: EventRecord) -> list[str]:
        """Take one record and return the lines for it."""
        if self.view is not None and record.seq <= self.view.last_seq:
            return []
        self.view = fold(self.view, record)
        if isinstance(record.event, Progressed):
            return self._progress(record.event, record.at)
        said = list(_lines(record.event))
        return [*said, *closing(self.view)] if self.view.state.ended else said

    def _progress(self, event: Progressed, at: datetime) -> list[str]:
        if self._progress_at is not None and at - self._progress_at < PROGRESS_INTERVAL:
            return []
        self._progress_at = at
        return [f"    {amount(event)}  {event.label}"]


def amount(event: Progressed) -> str:
    """Say how far it is: `12.3 of 134.0 GB (9 %)`."""
    percent = 100 * event.done // event.total if event.total else 0
    if event.unit is Unit.BYTES:
        return f"{event.done / 1e9:.2f} of {event.total / 1e9:.2f} GB ({percent} %)"
    return f"{event.done} of {event.total} {event.unit.value} ({percent} %)"


def closing(view: OperationView) -> list[str]:
    """Say how an operation ended."""
    took_s = 0.0 if view.ended_at is None else (view.ended_at - view.started_at).total_seconds()
    match view.state:
        case OperationState.SUCCEEDED:
            return [f"{view.kind} succeeded after {took_s:.0f} s: {view.summary}"]
        case OperationState.CANCELED:
            return [f"{view.kind} was canceled after {took_s:.0f} s"]
        case _:
            return [f"{view.kind} failed after {took_s:.0f} s"]


def _lines(event: Event) -> Iterator[str]:
    match event:
        case OperationStarted(kind=kind, actor=actor, node=node):
            yield f"{kind} on {node}, started by {actor}"
        case OperationResumed(step=step):
            yield f"  resumed at: {STEP_TITLES[step]}"
        case StepStarted(step=step):
            yield f"  {STEP_TITLES[step]}"
        case StepFinished(summary=summary):
            yield f"    done: {summary}"
        case FindingReported(outcome=outcome) if outcome != "pass":
            word = "WAIVED" if event.waiver else "BLOCKS" if event.blocking else outcome.upper()
            yield f"    {word:6}  {event.title or event.check}: found {event.observed}, required {event.required}"
            yield f"            {f'waived: {event.waiver}' if event.waiver else event.remedy}"
        case TaskFinished(outcome=TaskOutcome.CHANGED | TaskOutcome.FAILED):
            yield f"    {event.outcome.value:7}  {event.role}: {event.task} ({event.duration_s:.1f} s)"
        case LogLine(text=text):
            yield f"    {text}"
        case EvidenceWritten(bundle=bundle, root_fingerprint=fingerprint):
            yield f"    bundle {bundle}"
            yield f"    root fingerprint {fingerprint}"
        case CancelRequested(actor=actor):
            yield f"  {actor} asked to stop; it ends at the next safe point"
        case _:
            return
