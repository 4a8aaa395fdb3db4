"""One operation as lines: its steps, what it works on now, how it ended and what to do then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from textual.content import Content

from appliance.domain.events import FindingReported, Progressed, TaskOutcome, Unit
from appliance.domain.operation import OperationKind, OperationState, StepName, StepState
from appliance.domain.projection import OperationView, StepView, TaskView
from console.render import text
from console.render.frame import Frame
from console.render.listing import Line, Table

DOING = {
    OperationKind.INSTALL: "INSTALL",
    OperationKind.IMPORT: "IMPORT",
    OperationKind.PROVISION: "PROVISION",
    OperationKind.EXPORT_EVIDENCE: "EXPORT OF EVIDENCE",
    OperationKind.PLAN: "PLAN",
    OperationKind.UNINSTALL: "UNINSTALL",
    OperationKind.ACCEPTANCE: "ACCEPTANCE",
}
ENDED = {
    OperationState.RUNNING: "RUNNING",
    OperationState.SUCCEEDED: "SUCCEEDED",
    OperationState.FAILED: "FAILED",
    OperationState.CANCELED: "STOPPED",
}
STEP_NAMES = {
    StepName.PREFLIGHT: "Preflight",
    StepName.IMPORT: "Import",
    StepName.LICENSE: "Licence",
    StepName.PROVISION: "Provision",
    StepName.REBOOT: "Restart",
    StepName.START: "Start",
    StepName.SMOKE_TEST: "Smoke test",
    StepName.COLLECT: "Collect",
    StepName.SIGN: "Sign",
    StepName.PLAN: "Plan",
    StepName.REMOVE: "Removal",
    StepName.BURN_IN: "Burn-in",
    StepName.MEASURE: "Measure",
}
HARM = {
    StepName.PREFLIGHT: "Nothing was changed on this node.",
    StepName.IMPORT: "Nothing unverified was put in use; what was copied is kept and checked again.",
    StepName.LICENSE: "No statement was recorded by halves; no service was changed.",
    StepName.PROVISION: "Tasks that ended stand; a second run repeats them without harm.",
    StepName.REBOOT: "The release before it, if any, is still the current one.",
    StepName.START: "The node is provisioned; the engine does not serve.",
    StepName.SMOKE_TEST: "The node is provisioned; whether it serves is not proven.",
    StepName.COLLECT: "No evidence was written.",
    StepName.SIGN: "No evidence was written.",
    StepName.PLAN: "Nothing was changed on this node.",
    StepName.REMOVE: "What is removed is gone, the rest stands; records of the site were not touched.",
    StepName.BURN_IN: "No passport was written; the engine was started again.",
    StepName.MEASURE: "No passport was written; the engine runs as before.",
}
"""What a failure of each step leaves behind; every step can be run again (appliance.domain.operation)."""

_TASK_WORDS = {
    TaskOutcome.OK: text.OK,
    TaskOutcome.CHANGED: text.OK,
    TaskOutcome.SKIPPED: text.OFF,
    TaskOutcome.FAILED: text.FAIL,
    TaskOutcome.IGNORED: text.WARN,
}
_FINDING_WORDS = {"pass": text.OK, "warn": text.WARN, "fail": text.FAIL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast one piece of work goes, from its first and newest progress figure."""

    label: str
    began_at: datetime
    began_done: int
    at: datetime
    progress: Progressed

    def rate_per_s(self) -> float | None:
        """Return units per second since the first figure, or `None` before two figures differ."""
        passed_s = (self.at - self.began_at).total_seconds()
        done = self.progress.done - self.began_done
        return done / passed_s if passed_s > 0 and done > 0 else None

    def left_s(self) -> float | None:
        """Return the seconds left at this rate."""
        rate = self.rate_per_s()
        return None if rate is None else (self.progress.total - self.progress.done) / rate


def pace(before: Pace | None, progress: Progressed, at: datetime) -> Pace:
    """Return the pace after one more figure; a new label or a smaller figure starts anew."""
    if before is None or before.label != progress.label or progress.done < before.progress.done:
        return Pace(label=progress.label, began_at=at, began_done=progress.done, at=at, progress=progress)
    return Pace(
        label=before.label, began_at=before.began_at, began_done=before.began_done, at=at, progress=progress
    )  # fmt: skip


def strip(view: OperationView, simulated: tuple[str, ...], frame: Frame, *, unreachable: bool = False) -> Content:
    """Draw the top line: node, what is done and how far; that it goes on without a console."""
    left = [Content(f"{view.node}   {DOING[view.kind]} {ENDED[view.state]}")]
    if unreachable:
        left = [Content(f"{view.node}   DAEMON UNREACHABLE")]
    step = view.current_step
    if step is not None and not view.state.ended:
        left.append(Content(f"  {_place(view, step)}/{len(view.steps)} {step.title}"))
    if simulated:
        left.extend((Content("   "), Content.styled(f" SIMULATED: {', '.join(simulated)} ", "bold reverse")))
    right = text.clock(frame.now)
    if frame.wide and not view.state.ended:
        right = f"operation {view.id[:8]} runs in the background   {right}"
    return text.ends(Content.assemble(*left), Content(right), frame.width)


def table(views: Sequence[OperationView], frame: Frame) -> Table:
    """Draw the list of operations: how each stands, what it is, when, by whom."""
    header = f"      {'what':<16}{'began':<20}{'took':>10}  {'by':<12}  how it ended"
    lines = tuple(_list_line(view, frame) for view in views)
    empty = "There has been no operation. Press : and type install to begin one."
    return Table(header=header, lines=lines, empty=empty)


def _list_line(view: OperationView, frame: Frame) -> Line:
    words = {
        OperationState.RUNNING: text.BUSY,
        OperationState.SUCCEEDED: text.OK,
        OperationState.FAILED: text.FAIL,
        OperationState.CANCELED: text.WARN,
    }
    what = text.fit(view.kind.value, 16)
    when = f"{view.started_at:%Y-%m-%d %H:%M:%SZ}{text.minutes(_lasted_s(view, frame.now)):>10}"
    end = view.error.title if view.error else view.summary
    rest = Content.assemble(f"  {what}{when}  {text.fit(view.actor, 12)}  ", text.muted(end))
    return Line(key=view.id, rest=rest, state=words[view.state])


def step_column(view: OperationView, frame: Frame) -> list[Content]:
    """Draw the steps one below the other, with their times."""
    lines = [Content("")]
    for place, step in enumerate(view.steps, start=1):
        lines.append(_step(step, place, view, frame))
    lines.extend((Content(""), text.muted(f" {text.minutes(_lasted_s(view, frame.now))} so far")))
    if view.resumes:
        times = "once" if view.resumes == 1 else f"{view.resumes} times"
        lines.append(text.muted(f" gone on {times} after a restart"))
    return lines


def step_line(view: OperationView, frame: Frame) -> Content:
    """Draw all steps in one line: what is done is short, what is now has its name."""
    parts: list[Content] = []
    for place, step in enumerate(view.steps, start=1):
        name = STEP_NAMES[step.name]
        match step.state:
            case StepState.SUCCEEDED:
                part = Content.assemble(f"{place} ", ("ok", "$success"))
            case StepState.RUNNING:
                part = Content.styled(f"{frame.capabilities.glyphs.now}{place} {name}", "bold $primary")
            case StepState.FAILED:
                part = Content.styled(f"X{place} {name}", "bold $error")
            case StepState.CANCELED:
                part = Content.styled(f"!{place} {name}", "bold $warning")
            case StepState.PENDING:
                part = text.muted(f"{place} {name}")
        parts.append(part)
    return Content.assemble(" ", Content("  ").join(parts)).truncate(frame.width, ellipsis=True)


def work_title(view: OperationView) -> str:
    """Name the step that is worked on, or how it all ended."""
    step = view.current_step
    return "Result" if step is None else f"{_place(view, step)} {step.title}"


def progress_lines(view: OperationView, measured: Pace | None, frame: Frame) -> list[Content]:
    """Draw the bar, its figure and the time left; nothing where the daemon gave no figure."""
    progress = view.progress
    if progress is None or progress.total <= 0:
        return []
    share = progress.done / progress.total
    line = Content.assemble(
        text.bar(share, max(10, min(frame.width, 88) - 8), frame.capabilities), f"  {share * 100:3.0f} %"
    )
    figures = f"{_figure(progress.done, progress.unit)}/{_figure(progress.total, progress.unit)}"
    rate = measured.rate_per_s() if measured else None
    left_s = measured.left_s() if measured else None
    speed = f"   {text.size(int(rate))}/s" if rate is not None and progress.unit is Unit.BYTES else ""
    left = f"   about {text.minutes(left_s)} left" if left_s is not None else ""
    rest = Content.assemble(f"   {figures}{speed}", text.muted(left))
    label = text.fit(progress.label, max(10, frame.width - rest.cell_length)).rstrip()
    return [line, Content.assemble((label, "bold"), rest)]


def counts_line(view: OperationView) -> Content:
    """Draw Ansible's counts; failures stand out."""
    counts = view.task_counts
    calm = f"ok {counts.ok}   changed {counts.changed}   skipped {counts.skipped}   "
    failed = f"failed {counts.failed}"
    return Content.assemble(text.muted(calm), (failed, "bold $error") if counts.failed else text.muted(failed))


def task_row(task: TaskView, frame: Frame) -> Content:
    """Draw one task: the verdict, what it ensures, how long it took."""
    name_width = max(20, min(frame.width - 26, 64))
    name = text.fit(f"{task.role}: {task.task}", name_width)
    if task.outcome is None:
        running = text.minutes((frame.now - task.started_at).total_seconds())
        return Content.assemble(text.BUSY, "  ", (name, "bold"), f" {'':<9}{running:>7}")
    took = text.minutes(task.duration_s)
    failed = task.outcome is TaskOutcome.FAILED
    return Content.assemble(
        _TASK_WORDS[task.outcome],
        "  ",
        (name, "bold" if failed else ""),
        text.muted(f" {task.outcome.value:<9}{took:>7}"),
    )


def finding_row(finding: FindingReported, frame: Frame) -> Content:
    """Draw one preflight finding: what was seen, what is needed."""
    word = text.WARN if finding.waiver else _FINDING_WORDS.get(finding.outcome, text.STALE)
    name = text.fit(finding.check, 18)
    seen = text.fit(finding.observed, max(10, (frame.width - 30) // 2))
    needed = text.muted(f"waived: {finding.waiver}" if finding.waiver else f"needs {finding.required}")
    return Content.assemble(word, "  ", name, "  ", seen, "  ", needed).truncate(frame.width, ellipsis=True)


def result_lines(view: OperationView, frame: Frame) -> list[Content]:
    """Draw how the operation ended: what, why, what harm, what now."""
    if view.error is not None:
        failed = next((step for step in view.steps if step.state is StepState.FAILED), None)
        harm = HARM[failed.name] if failed else "Nothing more is being done."
        return [
            Content.styled(f"{view.error.title}.", "bold $error"),
            *text.labelled("Why", view.error.detail, frame.width),
            *text.labelled("Harm", harm, frame.width),
            *text.labelled("Remedy", view.error.remedy, frame.width, style="bold"),
            *text.labelled("Code", view.error.code, frame.width),
        ]
    if view.state is OperationState.CANCELED:
        return [
            Content.styled("The operation was stopped on request.", "bold $warning"),
            Content("What was begun is undone or can be gone on with; start it again to go on."),
        ]
    if view.state is OperationState.SUCCEEDED:
        return [Content.assemble(text.OK, "  ", (view.summary or "The operation succeeded.", "bold"))]
    return []


def summary_rows(view: OperationView, frame: Frame) -> list[Content]:
    """Draw one line a finished step, with what it concluded."""
    done = [step for step in view.steps if step.state is StepState.SUCCEEDED]
    return [
        Content.assemble(text.OK, f"  {text.fit(step.title, 32)}  ", text.muted(step.summary)).truncate(
            frame.width, ellipsis=True
        )
        for step in done
    ]


def work_lines(view: OperationView, measured: Pace | None, frame: Frame, room: int) -> list[Content]:
    """Draw what the present step does in at most `room` lines; results push older tasks out."""
    head = progress_lines(view, measured, frame)
    if view.task_counts.total or view.tasks:
        head.append(counts_line(view))
    foot = result_lines(view, frame)
    left = max(0, room - len(head) - len(foot) - 2)
    step = view.current_step
    if step is not None and step.name is StepName.PREFLIGHT and view.findings:
        worst_first = sorted(view.findings, key=lambda finding: ("fail", "warn", "pass").index(finding.outcome))
        middle = [finding_row(finding, frame) for finding in worst_first[:left]]
    elif view.tasks and (step is None or step.name is StepName.PROVISION):
        middle = [task_row(task, frame) for task in view.tasks[-left:]] if left else []
    else:
        middle = summary_rows(view, frame)[-left:] if left else []
    blocks = [block for block in (head, middle, foot) if block]
    return [line for place, block in enumerate(blocks) for line in ([Content("")] if place else []) + block]


def log_lines(view: OperationView, frame: Frame, room: int) -> list[Content]:
    """Draw the newest lines of the log, oldest first."""
    return [Content(line).truncate(frame.width - 2, ellipsis=True) for line in view.log[-room:]]


def hint(view: OperationView) -> Content:
    """Say what closing the console means now."""
    if not view.state.ended:
        asked = "Asked to stop; it stops at the next safe point. " if view.cancel_requested else ""
        return text.muted(f"{asked}You can close this console: the operation goes on.")
    if view.state is OperationState.SUCCEEDED:
        return text.muted("Nothing runs now. Press 1 for the health of this node.")
    return text.muted("Nothing runs now. r starts it again; finished work is not repeated.")


def _step(step: StepView, place: int, view: OperationView, frame: Frame) -> Content:
    glyphs = frame.capabilities.glyphs
    took_s = None
    if step.started_at is not None:
        took_s = ((step.ended_at or view.ended_at or frame.now) - step.started_at).total_seconds()
    took = "" if took_s is None else text.minutes(took_s)
    name = text.fit(STEP_NAMES[step.name], 16)
    match step.state:
        case StepState.SUCCEEDED:
            return Content.assemble((f" {glyphs.done}", "$success"), f" {place} {name}", text.muted(f"{took:>8}"))
        case StepState.RUNNING:
            return Content.styled(f" {glyphs.now} {place} {name}{took:>8}", "bold $primary")
        case StepState.FAILED:
            return Content.styled(f" X {place} {name}{took:>8}", "bold $error")
        case StepState.CANCELED:
            return Content.styled(f" ! {place} {name}{took:>8}", "bold $warning")
        case StepState.PENDING:
            return text.muted(f" {glyphs.ahead} {place} {name}")


def _place(view: OperationView, step: StepView) -> int:
    return view.steps.index(step) + 1


def _lasted_s(view: OperationView, now: datetime) -> float:
    return ((view.ended_at or now) - view.started_at).total_seconds()


def _figure(count: int, unit: Unit) -> str:
    return text.size(count) if unit is Unit.BYTES else f"{count}"
