"""What happened in an operation: one union of frozen values, stored in order.

Names are past tense. Payloads are plain values: never a secret, a prompt or a completion. On the
wire and in the journal an event is a JSON object with its class name under `type`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from appliance.domain.operation import OperationId, OperationKind, StepName


class Unit(StrEnum):
    """What a progress figure counts."""

    BYTES = "bytes"
    FILES = "files"
    TASKS = "tasks"


class TaskOutcome(StrEnum):
    """Ansible's verdict on one task on one node."""

    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStarted:
    kind: OperationKind
    actor: str
    node: str
    steps: tuple[StepName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResumed:
    """The daemon came back after a kill or a reboot and goes on at `step`."""

    step: StepName


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    step: StepName


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    step: StepName
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """`done` of `total` in `unit`; `label` names what is worked on."""

    step: StepName
    label: str
    done: int
    total: int
    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted:
    role: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinished:
    role: str
    task: str
    outcome: TaskOutcome
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingReported:
    """One preflight check's finding."""

    check: str
    outcome: str
    blocking: bool
    observed: str
    required: str
    remedy: str
    title: str = ""
    group: str = ""
    why: str = ""
    waivable: bool = True
    waiver: str = ""
    """The reason for which a person lets this finding pass; empty where nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceWritten:
    """A signed evidence bundle lies at `bundle`; `root_fingerprint` is the SHA-256 of its trusted root."""

    bundle: str
    root_fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartNeeded:
    """The node cannot serve before it has restarted from the boot `boot_id`; `reasons` are stable names."""

    boot_id: str
    reasons: tuple[str, ...]
    detail: str
    at_console: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade:
    """A plan is kept under `digest`, the SHA-256 of its canonical JSON."""

    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAccepted:
    """The operation's plan holds; from here on the node differs from it by what the operation does."""

    digest: str
    approved_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStopped:
    """A step is about to stop a unit that runs; an operation that does not succeed starts it again."""

    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSucceeded:
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFailed:
    step: StepName
    code: str
    title: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCanceled:
    step: StepName


Event = (
    OperationStarted
    | OperationResumed
    | StepStarted
    | StepFinished
    | Progressed
    | TaskStarted
    | TaskFinished
    | FindingReported
    | EvidenceWritten
    | RestartNeeded
    | PlanMade
    | PlanAccepted
    | UnitStopped
    | LogLine
    | CancelRequested
    | OperationSucceeded
    | OperationFailed
    | OperationCanceled
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """An event with its place in the operation's journal; `seq` starts at 1 and has no gaps."""

    operation_id: OperationId
    seq: int
    at: datetime
    event: Event
