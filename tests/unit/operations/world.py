"""Operations on a real leeward.db, with steps that a test writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from appliance.adapters.clock import SystemClock
from appliance.adapters.sql import Database, SqlAuditLog, SqlJournal
from appliance.domain.events import EventRecord
from appliance.domain.operation import Actor, OperationId, OperationKind, OperationRequest, StepName
from appliance.domain.projection import OperationView
from appliance.services.operations import OperationPorts, Operations
from appliance.services.steps import StepContext

IMPORT = OperationRequest(kind=OperationKind.IMPORT, parameters={"medium": "/mnt/usb"})
ACTOR = Actor(name="j.doe", uid=1000)


@dataclass
class TestStep:
    """A step that does what the test says, and remembers how often."""

    __test__ = False  # not a test class

    act: Callable[[StepContext], str]
    runs: int = 0
    undone: int = 0
    on_undo: Callable[[StepContext], None] = lambda _context: None

    def run(self, context: StepContext) -> str:
        self.runs += 1
        return self.act(context)

    def undo(self, context: StepContext) -> None:
        self.undone += 1
        self.on_undo(context)


def fine(_context: StepContext) -> str:
    return "done"


@dataclass
class Reports:
    errors: list[BaseException] = field(default_factory=list)

    def write(self, error: BaseException, at: datetime) -> str:
        self.errors.append(error)
        return f"The support report is /reports/{at.year}."


@dataclass
class World:
    """One daemon's life on a database; make another one on the same path for the next life."""

    path: Path
    preflight: TestStep = field(default_factory=lambda: TestStep(fine))
    importing: TestStep = field(default_factory=lambda: TestStep(fine))
    reports: Reports = field(default_factory=Reports)

    def __post_init__(self) -> None:
        self.database = Database.open(self.path)
        self.journal = SqlJournal(self.database)
        self.audit = SqlAuditLog(self.database, SystemClock())
        self.operations = Operations(
            OperationPorts(journal=self.journal, audit=self.audit, clock=SystemClock(), reports=self.reports),
            steps={StepName.PREFLIGHT: self.preflight, StepName.IMPORT: self.importing},
            node="llm01",
            stop_grace_s=0.0,
        )

    def start(self) -> OperationId:
        return self.operations.start(IMPORT, ACTOR).id

    def ended(self, operation_id: OperationId) -> OperationView:
        assert self.operations.join(10)
        view = self.operations.view(operation_id)
        assert view.state.ended
        return view

    def names(self, operation_id: OperationId) -> list[str]:
        return [type(record.event).__name__ for record in self.records(operation_id)]

    def records(self, operation_id: OperationId) -> list[EventRecord]:
        return self.journal.records(operation_id)

    def audited(self) -> list[tuple[str, str]]:
        return [(entry.action, entry.outcome) for entry in self.audit.entries()]

    def close(self) -> None:
        self.operations.begin_stop()
        assert self.operations.join(10)
        self.database.close()


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
