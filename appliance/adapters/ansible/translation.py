"""ansible-runner's events to Leeward's. Pure but for what a run remembers.

Source of the names: ansible-runner 2.4, "Runner events"; `event_data` holds role, task, duration (s)
and the module's result `res`, which `no_log` replaces by a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.domain.events import Event, LogLine, Progressed, TaskFinished, TaskOutcome, TaskStarted, Unit
from appliance.domain.operation import StepName
from appliance.ports import PlayResult

MAX_MESSAGE_CHARACTERS = 800
_FINISHED = {"runner_on_ok", "runner_on_failed", "runner_on_skipped", "runner_on_unreachable"}
_STARTED = {"playbook_on_task_start", "playbook_on_handler_task_start"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailure:
    """The task that ended a play, and the module's message in one piece."""

    role: str
    task: str
    host: str
    message: str


@dataclass(kw_only=True)
class Translation:
    """One run of a playbook: turns events and remembers what its end needs.

    `total` is how many tasks the play holds, once that is known. Handlers and gathered facts are not counted,
    so the figure grows where more come: the bar never passes its end.
    """

    total: int = 0
    step: StepName = StepName.PROVISION
    done: int = 0
    failure: TaskFailure | None = None
    stats: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    started: bool = False

    def events(self, raw: Mapping[str, Any]) -> Iterator[Event]:
        """Return what one event of ansible-runner means; many mean nothing."""
        kind = raw.get("event", "")
        data = raw.get("event_data", {})
        self.started = True
        if kind in _STARTED:
            yield TaskStarted(role=data.get("role", ""), task=task_name(data))
            yield self._progress(data)
            self.done += 1
        elif kind in _FINISHED:
            yield from self._finished(kind, data)
        elif kind in {"warning", "error"} and raw.get("stdout"):
            yield LogLine(text=shortened(raw["stdout"]))
        elif kind == "playbook_on_stats":
            self.stats = {key: value for key, value in data.items() if isinstance(value, dict)}
            if not self._sum("failures", "dark"):
                yield self._progress({"task": "Finished"}, at_end=True)

    def result(self) -> PlayResult:
        """Return the closing statistics; unreachable nodes count as failed."""
        return PlayResult(
            ok=self._sum("ok"),
            changed=self._sum("changed"),
            skipped=self._sum("skipped"),
            failed=self._sum("failures", "dark"),
            rescued=self._sum("rescued"),
            ignored=self._sum("ignored"),
        )

    def _progress(self, data: Mapping[str, Any], *, at_end: bool = False) -> Progressed:
        self.total = self.done if at_end else max(self.total, self.done + 1)
        return Progressed(step=self.step, label=_label(data), done=self.done, total=self.total, unit=Unit.TASKS)

    def _finished(self, kind: str, data: Mapping[str, Any]) -> Iterator[Event]:
        outcome = _outcome(kind, data)
        yield TaskFinished(
            role=data.get("role", ""),
            task=task_name(data),
            outcome=outcome,
            duration_s=float(data.get("duration") or 0.0),
        )
        if outcome in {TaskOutcome.FAILED, TaskOutcome.IGNORED}:
            said = message(data.get("res", {}))
            yield LogLine(text=f"{_label(data)}: {said}")
            if outcome is TaskOutcome.FAILED:
                # The last failure is the one that ended the play: a rescued one is followed by others.
                self.failure = TaskFailure(
                    role=data.get("role", ""), task=task_name(data), host=data.get("host", ""), message=said
                )

    def _sum(self, *keys: str) -> int:
        return sum(sum(self.stats.get(key, {}).values()) for key in keys)


def _outcome(kind: str, data: Mapping[str, Any]) -> TaskOutcome:
    if kind == "runner_on_skipped":
        return TaskOutcome.SKIPPED
    if kind == "runner_on_ok":
        return TaskOutcome.CHANGED if data.get("res", {}).get("changed") else TaskOutcome.OK
    return TaskOutcome.IGNORED if data.get("ignore_errors") else TaskOutcome.FAILED


def task_name(data: Mapping[str, Any]) -> str:
    """Return a task's name."""
    return str(data.get("task") or "unnamed task")


def _label(data: Mapping[str, Any]) -> str:
    role = data.get("role")
    return f"{role}: {task_name(data)}" if role else task_name(data)


def message(result: Mapping[str, Any]) -> str:
    """Return what a person needs of a failed module's result: its message and what the command said.

    A loop's own message says only that items failed, so the first failed item speaks.
    """
    if "censored" in result:
        return "the output is withheld, as it may hold a secret (no_log)"
    for item in result.get("results", ()):
        if isinstance(item, dict) and item.get("failed"):
            return message(item)
    said = [str(result.get("msg", "")).strip(), str(result.get("stderr") or result.get("stdout") or "").strip()]
    return shortened(": ".join(part for part in said if part) or "the module gave no message")


def shortened(text: str, most: int = MAX_MESSAGE_CHARACTERS) -> str:
    """Return beginning and end of a text that is longer than `most` characters."""
    text = text.strip()
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... {text[-half:]}"
