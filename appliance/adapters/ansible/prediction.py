"""Ansible's `--check --diff` to predictions. Pure but for what a run remembers.

In check mode a command is skipped with a note that it would have run, and a task that needs what an
earlier task would have made fails; the play ignores that. Both are `not-predictable`, and say why. A
failed assertion is no guess: it would refuse the real play too.

ansible-runner 2.4 hands on no result of a skipped task, so the note is looked for in what Ansible
prints of it; that takes one `-v`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.adapters.ansible.translation import TaskFailure, message, shortened, task_name
from appliance.domain.plan import PlannedTask, Prediction

MAX_DIFFERENCE_CHARACTERS: Final = 2_000
_REFUSING: Final = {"ansible.builtin.assert", "assert", "ansible.builtin.fail", "fail"}
_WOULD_RUN: Final = "would have run"
_ENDED: Final = {"runner_on_ok", "runner_on_failed", "runner_on_skipped"}


@dataclass(kw_only=True)
class Predictions:
    """What each task of one run in check mode would do, in order."""

    tasks: list[PlannedTask] = field(default_factory=list)
    refusal: TaskFailure | None = None
    would_run: bool = False
    """Whether a command of the task that is under way would have run; a loop tells it item by item."""

    def take(self, raw: Mapping[str, Any]) -> None:
        """Take one event of ansible-runner."""
        kind, data = raw.get("event", ""), raw.get("event_data", {})
        if kind in _ENDED | {"runner_item_on_skipped"}:
            self.would_run |= _WOULD_RUN in raw.get("stdout", "")
        if kind in _ENDED:
            self._end(kind, data)
            self.would_run = False

    def _end(self, kind: str, data: Mapping[str, Any]) -> None:
        result = data.get("res", {})
        if kind == "runner_on_failed" and data.get("task_action") in _REFUSING and self.refusal is None:
            role, host = str(data.get("role", "")), str(data.get("host", ""))
            self.refusal = TaskFailure(role=role, task=task_name(data), host=host, message=message(result))
        predicted = _prediction(kind, result, would_run=self.would_run)
        if predicted is not None:
            prediction, detail = predicted
            self.tasks.append(
                PlannedTask(role=data.get("role", ""), task=task_name(data), prediction=prediction, detail=detail)
            )


def _prediction(kind: str, result: Mapping[str, Any], *, would_run: bool) -> tuple[Prediction, str] | None:
    """Return what a task would do and how that is known; `None` where it does not concern this node."""
    if kind == "runner_on_failed":
        why = message(result).splitlines()[0]
        return Prediction.NOT_PREDICTABLE, f"cannot be tried before the tasks ahead of it have run: {why}"
    if "censored" in result:
        return Prediction.NOT_PREDICTABLE, "withheld, as it may hold a secret (no_log)"
    if would_run:
        return Prediction.NOT_PREDICTABLE, "a command, which would run"
    if kind == "runner_on_skipped":
        return None
    if result.get("changed"):
        return Prediction.CHANGES, _difference(result)
    return Prediction.UNCHANGED, ""


def _parts(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give the result and those of a loop's items."""
    yield result
    for item in result.get("results", ()):
        if isinstance(item, dict):
            yield item


def _difference(result: Mapping[str, Any]) -> str:
    said = (_one_difference(diff, _place(part)) for part in _parts(result) for diff in _as_list(part.get("diff")))
    text = "\n".join(filter(None, said))
    return shortened(text, MAX_DIFFERENCE_CHARACTERS)


def _place(result: Mapping[str, Any]) -> str:
    """Return the file that a task is about; a difference names where its text came from, on this side."""
    given = result.get("invocation", {}).get("module_args", {})
    return str(result.get("dest") or result.get("path") or given.get("dest") or given.get("path") or "")


def _one_difference(diff: Mapping[str, Any], place: str) -> str:
    if "prepared" in diff:
        return str(diff["prepared"]).strip()
    before, after = diff.get("before", ""), diff.get("after", "")
    if isinstance(before, dict) and isinstance(after, dict):
        where = after.get("path", "")
        keys = [key for key in after if key != "path" and before.get(key) != after[key]]
        return "\n".join(f"{where} {key}: {before.get(key, 'none')} -> {after[key]}".strip() for key in sorted(keys))
    was, new = str(before).splitlines(), str(after).splitlines()
    lines = [f"- {line}" for line in was if line not in new] + [f"+ {line}" for line in new if line not in was]
    return "\n".join(filter(None, [place or str(diff.get("before_header", "")), *lines]))


def _as_list(diff: object) -> list[Mapping[str, Any]]:
    found = diff if isinstance(diff, list) else [diff]
    return [each for each in found if isinstance(each, dict)]
