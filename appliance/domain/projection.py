"""One operation as a reader sees it: the fold of its event records.

`fold` is the only way from events to a view; daemon, CLI and console all call it. Records come at
least once and in order: what was seen before is ignored, a gap is refused. The view is bounded: it
keeps the last `TASKS_KEPT` tasks and the last `LOG_LINES_KEPT` log lines, and counts the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from appliance.domain.events import (
    CancelRequested,
    Event,
    EventRecord,
    EvidenceWritten,
    FindingReported,
    LogLine,
    OperationCanceled,
    OperationFailed,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    PlanAccepted,
    PlanMade,
    Progressed,
    RestartNeeded,
    StepFinished,
    StepStarted,
    TaskFinished,
    TaskOutcome,
    TaskStarted,
    UnitStopped,
)
from appliance.domain.operation import OperationId, OperationKind, OperationState, StepName, StepState

TASKS_KEPT = 200
LOG_LINES_KEPT = 500

STEP_TITLES: dict[StepName, str] = {
    StepName.PREFLIGHT: "Check the node",
    StepName.IMPORT: "Verify and import the release",
    StepName.LICENSE: "Record the licence terms",
    StepName.PROVISION: "Provision the node",
    StepName.REBOOT: "Restart the node where it is needed",
    StepName.START: "Start the engine",
    StepName.SMOKE_TEST: "Ask through the gateway",
    StepName.COLLECT: "Collect the evidence",
    StepName.SIGN: "Sign the evidence",
    StepName.PLAN: "Try what would change",
    StepName.REMOVE: "Take Leeward off the node",
    StepName.BURN_IN: "Load the processors and measure them",
    StepName.MEASURE: "Measure the engine and write the passport",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """A step's present state; `ended_at` and `summary` belong to its latest run."""

    name: StepName
    title: str
    state: StepState = StepState.PENDING
    started_at: datetime | None = None
    ended_at: datetime | None = None
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One Ansible task; `outcome` is `None` while it runs."""

    role: str
    task: str
    started_at: datetime
    outcome: TaskOutcome | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCounts:
    """How many tasks ended how, over the whole operation."""

    ok: int = 0
    changed: int = 0
    skipped: int = 0
    failed: int = 0
    ignored: int = 0

    @property
    def total(self) -> int:
        """All tasks that have ended."""
        return self.ok + self.changed + self.skipped + self.failed + self.ignored

    def with_one_more(self, outcome: TaskOutcome) -> TaskCounts:
        """Count one more task that ended so."""
        name = outcome.value
        return replace(self, **{name: getattr(self, name) + 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorView:
    """What an operation failed with; `code` is a heading in docs/errors.md."""

    code: str
    title: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """Everything a reader may show of one operation, after the record `last_seq`."""

    id: OperationId
    kind: OperationKind
    state: OperationState
    actor: str
    node: str
    started_at: datetime
    ended_at: datetime | None = None
    summary: str = ""
    steps: tuple[StepView, ...]
    progress: Progressed | None = None
    tasks: tuple[TaskView, ...] = ()
    task_counts: TaskCounts = TaskCounts()
    findings: tuple[FindingReported, ...] = ()
    evidence: EvidenceWritten | None = None
    plan: str = ""
    """Digest of the plan that was made, or that the operation goes by."""
    log: tuple[str, ...] = ()
    error: ErrorView | None = None
    cancel_requested: bool = False
    resumes: int = 0
    last_seq: int

    @property
    def current_step(self) -> StepView | None:
        """The step that runs, or that runs next; `None` where none is left."""
        return next((step for step in self.steps if step.state is not StepState.SUCCEEDED), None)

    def step(self, name: StepName) -> StepView:
        """Return one step; raises KeyError where this operation has none of that name."""
        for step in self.steps:
            if step.name is name:
                return step
        raise KeyError(name)


def fold(view: OperationView | None, record: EventRecord) -> OperationView:
    """Return the view after `record`.

    A record that the view holds already changes nothing. Raises ValueError for a gap in the
    sequence and for a journal that does not open with OperationStarted.
    """
    if view is None:
        return _opened(record)
    if record.seq <= view.last_seq:
        return view
    if record.seq != view.last_seq + 1 or record.operation_id != view.id:
        raise ValueError(f"record {record.operation_id}/{record.seq} does not follow {view.id}/{view.last_seq}")
    return replace(_after(view, record.event, record.at), last_seq=record.seq)


def fold_all(view: OperationView | None, records: Iterable[EventRecord]) -> OperationView | None:
    """Fold many records; `None` where there is neither a view nor a record."""
    for record in records:
        view = fold(view, record)
    return view


def _opened(record: EventRecord) -> OperationView:
    event = record.event
    if record.seq != 1 or not isinstance(event, OperationStarted):
        raise ValueError(f"the journal of {record.operation_id} opens with {type(event).__name__} {record.seq}")
    return OperationView(
        id=record.operation_id,
        kind=event.kind,
        state=OperationState.RUNNING,
        actor=event.actor,
        node=event.node,
        started_at=record.at,
        steps=tuple(StepView(name=name, title=STEP_TITLES[name]) for name in event.steps),
        last_seq=1,
    )


def _after(view: OperationView, event: Event, at: datetime) -> OperationView:  # noqa: PLR0911  one arm per event
    match event:
        case StepStarted(step=name):
            return replace(_with_step(view, name, _started(name, at)), progress=None)
        case StepFinished(step=name, summary=summary):
            done = replace(view.step(name), state=StepState.SUCCEEDED, ended_at=at, summary=summary)
            return replace(_with_step(view, name, done), progress=None)
        case Progressed():
            return replace(view, progress=event)
        case TaskStarted() | TaskFinished():
            return _with_task(view, event, at)
        case FindingReported(check=check):
            others = tuple(finding for finding in view.findings if finding.check != check)
            return replace(view, findings=(*others, event))
        case LogLine(text=text):
            return replace(view, log=(*view.log, text)[-LOG_LINES_KEPT:])
        case OperationResumed():
            return _resumed(view)
        case RestartNeeded() | UnitStopped():
            return view
        case EvidenceWritten() | PlanMade() | PlanAccepted() | CancelRequested():
            return _noted(view, event)
        case _:
            return _ended(view, event, at)


def _noted(view: OperationView, event: EvidenceWritten | PlanMade | PlanAccepted | CancelRequested) -> OperationView:
    match event:
        case EvidenceWritten():
            return replace(view, evidence=event)
        case PlanMade(digest=digest) | PlanAccepted(digest=digest):
            return replace(view, plan=digest)
        case CancelRequested():
            return replace(view, cancel_requested=True)


def _started(name: StepName, at: datetime) -> StepView:
    return StepView(name=name, title=STEP_TITLES[name], state=StepState.RUNNING, started_at=at)


def _resumed(view: OperationView) -> OperationView:
    running = tuple(task for task in view.tasks if task.outcome is not None)
    return replace(view, resumes=view.resumes + 1, progress=None, tasks=running)


def _ended(view: OperationView, event: Event, at: datetime) -> OperationView:
    ended = replace(view, ended_at=at, progress=None)
    match event:
        case OperationSucceeded(summary=summary):
            return replace(ended, state=OperationState.SUCCEEDED, summary=summary)
        case OperationFailed(step=name, code=code, title=title, detail=detail, remedy=remedy):
            error = ErrorView(code=code, title=title, detail=detail, remedy=remedy)
            failed = replace(view.step(name), state=StepState.FAILED, ended_at=at)
            return replace(_with_step(ended, name, failed), state=OperationState.FAILED, error=error)
        case OperationCanceled(step=name):
            canceled = replace(view.step(name), state=StepState.CANCELED, ended_at=at)
            return replace(_with_step(ended, name, canceled), state=OperationState.CANCELED)
        case _:
            raise ValueError(f"{type(event).__name__} cannot follow in the journal of {view.id}")


def _with_step(view: OperationView, name: StepName, changed: StepView) -> OperationView:
    return replace(view, steps=tuple(changed if step.name is name else step for step in view.steps))


def _with_task(view: OperationView, event: TaskStarted | TaskFinished, at: datetime) -> OperationView:
    if isinstance(event, TaskStarted):
        begun = TaskView(role=event.role, task=event.task, started_at=at)
        return replace(view, tasks=(*view.tasks, begun)[-TASKS_KEPT:])
    ended = TaskView(
        role=event.role, task=event.task, started_at=at, outcome=event.outcome, duration_s=event.duration_s
    )
    counts = view.task_counts.with_one_more(event.outcome)
    for place in range(len(view.tasks) - 1, -1, -1):
        task = view.tasks[place]
        if task.outcome is None and (task.role, task.task) == (event.role, event.task):
            ended = replace(ended, started_at=task.started_at)
            tasks = (*view.tasks[:place], ended, *view.tasks[place + 1 :])
            return replace(view, tasks=tasks, task_counts=counts)
    return replace(view, tasks=(*view.tasks, ended)[-TASKS_KEPT:], task_counts=counts)
