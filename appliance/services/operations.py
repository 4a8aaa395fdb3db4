"""Operations: one long action at a time, journaled, cancelable, and resumed after a kill.

The thread of an operation walks its steps and stores what happens. Whatever kills the process,
the journal says at its next start how far it came: `resume` goes on at the first step that has no
StepFinished. A graceful stop of the daemon is no failure: the thread leaves at the next safe point
and the journal stays open.

The audit log is written before the event that it speaks of; after a kill between the two, `resume`
looks for the entry before it writes it again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event as Flag
from threading import RLock, Thread
from uuid import UUID

import structlog

from appliance.domain.acceptance import AcceptancePlan
from appliance.domain.errors import Canceled, InternalError, LeewardError, NotFound, OperationConflict
from appliance.domain.events import (
    CancelRequested,
    Event,
    EventRecord,
    LogLine,
    OperationCanceled,
    OperationFailed,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    StepFinished,
    StepStarted,
)
from appliance.domain.operation import (
    ACCEPTANCE,
    PARAMETERS,
    Actor,
    OperationId,
    OperationRequest,
    StepName,
    check_parameters,
    steps_of,
)
from appliance.domain.projection import OperationView, fold_all
from appliance.ports import AuditLog, Clock, Emit, Journal, SupportReports
from appliance.services.announcing import Announcer
from appliance.services.steps import Step, StepContext, UndoableStep
from appliance.services.wakeups import Wakeups

log = structlog.get_logger()

AUDIT_LOOK_BACK = 1_000
RETRY_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPorts:
    """What operations need of the world."""

    journal: Journal
    audit: AuditLog
    clock: Clock
    reports: SupportReports
    monotonic_s: Callable[[], float] = time.monotonic


@dataclass(slots=True, kw_only=True)
class _Running:
    """The operation whose thread runs in this process."""

    id: OperationId
    request: OperationRequest
    actor: Actor
    started_at: datetime
    remaining: tuple[StepName, ...]
    resumed: bool
    emit: Emit
    cancel: Flag


class Operations:
    """Starts, resumes, cancels and shows operations; all methods may be called from any thread."""

    def __init__(
        self,
        ports: OperationPorts,
        *,
        steps: Mapping[StepName, Step],
        node: str,
        stop_grace_s: float = 1.0,
        is_change_measured: bool = False,
    ) -> None:
        self._ports = ports
        self._steps = steps
        self._node = node
        self._stop_grace_s = stop_grace_s
        self._is_change_measured = is_change_measured
        self._lock = RLock()
        self._views: dict[OperationId, OperationView] = {}
        self._running: _Running | None = None
        self._thread: Thread | None = None
        self._stopping = Flag()
        self._wakeups = Wakeups()

    # -- acting --------------------------------------------------------------------------------

    def start(self, request: OperationRequest, actor: Actor) -> OperationView:
        """Start an operation and return its first view.

        Raises RequestInvalid for parameters that do not fit, OperationConflict while another is unfinished.
        """
        check_parameters(request)
        AcceptancePlan.of(request.parameters)
        if self._is_change_measured and ACCEPTANCE in PARAMETERS[request.kind].optional:
            request = replace(request, parameters={ACCEPTANCE: "true", **request.parameters})
        with self._lock:
            self._refuse_second()
            at = self._ports.clock.now()
            operation_id = _new_id(at)
            self._ports.journal.create(operation_id, request, actor, at)
            return self._begin(operation_id, request, actor, resumed=False)

    def resume(self) -> OperationView | None:
        """Go on with the operation that a kill or a stop left unfinished; call once, at start."""
        found = self._ports.journal.unfinished()
        if found is None:
            return None
        operation_id, request, actor = found
        with self._lock:
            return self._begin(operation_id, request, actor, resumed=True)

    def cancel(self, operation_id: OperationId, actor: Actor) -> OperationView:
        """Ask an operation to stop at its next safe point; one that has ended is left as it is.

        Raises NotFound.
        """
        with self._lock:
            view = self.view(operation_id)
            if view.state.ended or view.cancel_requested:
                return view
            self._audit(operation_id, view.kind, actor.name, "cancel-requested")
            self._store(operation_id, CancelRequested(actor=actor.name))
            if self._running is not None and self._running.id == operation_id:
                self._running.cancel.set()
            return self.view(operation_id)

    def begin_stop(self) -> None:
        """Ask the running operation to leave at its next safe point, to be resumed later; wake all readers."""
        if not self._stopping.is_set():
            self._stopping.set()
        self._wakeups.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait for the operation's thread; return whether none runs any more."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    # -- showing -------------------------------------------------------------------------------

    def view(self, operation_id: OperationId) -> OperationView:
        """Return an operation as it is now; raises NotFound."""
        with self._lock:
            known = self._views.get(operation_id)
            view = fold_all(known, self._records_after(operation_id, known.last_seq if known else 0))
            if view is None:
                raise NotFound(
                    detail=f"There is no operation {operation_id}.", remedy="List them with `leeward operations`."
                )
            self._views[operation_id] = view
            return view

    def views(self, limit: int = 100) -> tuple[OperationView, ...]:
        """Return operations, newest first."""
        return tuple(self.view(operation_id) for operation_id, _, _ in self._ports.journal.operations(limit))

    def unfinished(self) -> OperationView | None:
        """Return the operation that has not ended."""
        found = self._ports.journal.unfinished()
        return None if found is None else self.view(found[0])

    def records(self, operation_id: OperationId, after: int = 0, limit: int = 1_000) -> list[EventRecord]:
        """Return event records after `after`, oldest first; raises NotFound."""
        self.view(operation_id)
        return self._ports.journal.records(operation_id, after, limit)

    async def wait(
        self, operation_id: OperationId, *, after: int, timeout_s: float, limit: int = 1_000
    ) -> list[EventRecord]:
        """Return records after `after` as soon as there are any.

        An empty list means: the time is up, the operation has ended, or the daemon is stopping. Raises NotFound.
        """
        deadline_s = self._ports.monotonic_s() + timeout_s
        with self._wakeups.subscribed() as woken:
            while True:
                woken.clear()
                records, is_over = await asyncio.to_thread(self._look, operation_id, after, limit)
                remaining_s = deadline_s - self._ports.monotonic_s()
                if records or is_over or remaining_s <= 0 or self._stopping.is_set():
                    return records
                try:
                    async with asyncio.timeout(remaining_s):
                        await woken.wait()
                except TimeoutError:
                    return []

    def _look(self, operation_id: OperationId, after: int, limit: int) -> tuple[list[EventRecord], bool]:
        """Return records and whether no more can follow; the view is older than the records, so none is missed."""
        is_over = self.view(operation_id).state.ended
        return self._ports.journal.records(operation_id, after, limit), is_over

    # -- the thread ----------------------------------------------------------------------------

    def _begin(
        self, operation_id: OperationId, request: OperationRequest, actor: Actor, *, resumed: bool
    ) -> OperationView:
        if not self._ports.journal.records(operation_id, limit=1):  # new, or killed before its first event
            self._audit(operation_id, request.kind, actor.name, "started", request.parameters, once=resumed)
            started = OperationStarted(kind=request.kind, actor=actor.name, node=self._node, steps=steps_of(request))
            self._store(operation_id, started)
        view = self.view(operation_id)
        remaining = tuple(step.name for step in view.steps if step.ended_at is None)
        if resumed and remaining:
            self._store(operation_id, OperationResumed(step=remaining[0]))
            self._audit(operation_id, request.kind, Actor.appliance().name, "resumed", {"step": remaining[0]})
        running = _Running(
            id=operation_id,
            request=request,
            actor=actor,
            started_at=view.started_at,
            remaining=remaining,
            resumed=resumed,
            emit=Announcer(lambda event: self._store(operation_id, event), self._ports.monotonic_s),
            cancel=Flag(),
        )
        if view.cancel_requested:
            running.cancel.set()
        self._running = running
        self._thread = Thread(target=self._work, args=(running,), name=f"operation {operation_id}", daemon=True)
        self._thread.start()
        return self.view(operation_id)

    def _work(self, running: _Running) -> None:
        try:
            ending = self._walk(running)
        except Exception:  # the outermost place of this thread: the journal itself failed
            log.exception("operation_lost_its_journal", operation=running.id)
            return
        if ending is not None:
            self._end_surely(running, ending)

    def _walk(self, running: _Running) -> Event | None:
        """Run the steps; return how it ended, or `None` where a later start goes on."""
        context = self._context(running)
        ending = self._steps_to_end(running, context)
        return ending if isinstance(ending, OperationSucceeded) else self._undone(running, context, ending)

    def _context(self, running: _Running) -> StepContext:
        return StepContext(
            operation_id=running.id,
            kind=running.request.kind,
            parameters=running.request.parameters,
            actor=running.actor,
            started_at=running.started_at,
            emit=running.emit,
            is_canceled=lambda: running.cancel.is_set() or self._stopping.is_set(),
        )

    def _steps_to_end(self, running: _Running, context: StepContext) -> Event | None:
        summary = ""
        for name in running.remaining:
            try:
                context.stop_if_canceled()
                running.emit(StepStarted(step=name))
                summary = self._steps[name].run(context)
                running.emit(StepFinished(step=name, summary=summary))
            except Canceled as error:
                return OperationCanceled(step=name) if running.cancel.is_set() else self._failure(name, error)
            except LeewardError as error:
                return self._failure(name, error)
            except Exception as error:  # noqa: BLE001  the one outermost place of all steps
                return self._failure(name, self._unforeseen(name, error))
        return OperationSucceeded(summary=summary or self.view(running.id).steps[-1].summary)

    def _undone(self, running: _Running, context: StepContext, ending: Event | None) -> Event | None:
        """Let the steps that began give back what they took; what cannot be given back is a failure, and told."""
        begun = [step.name for step in self.view(running.id).steps if step.started_at is not None]
        for name in reversed(begun):
            step = self._steps[name]
            try:
                if isinstance(step, UndoableStep):
                    step.undo(context)
            except LeewardError as error:
                ending = self._not_undone(running, name, error, ending)
            except Exception as error:  # noqa: BLE001  the one outermost place of all steps
                ending = self._not_undone(running, name, self._unforeseen(name, error), ending)
        return ending

    def _not_undone(self, running: _Running, name: StepName, error: LeewardError, ending: Event | None) -> Event | None:
        running.emit(LogLine(text=f"{name} could not be taken back: {error.detail} {error.remedy}"))
        if isinstance(ending, OperationCanceled):
            return self._failed(ending.step, error)
        return ending

    def _failure(self, name: StepName, error: LeewardError) -> OperationFailed | None:
        """Say how a step failed, or `None` where the stop of the daemon is the cause.

        A system that goes down kills playbook and daemon together; the grace tells one from the other.
        """
        if self._stopping.wait(self._stop_grace_s):
            return None
        return self._failed(name, error)

    @staticmethod
    def _failed(name: StepName, error: LeewardError) -> OperationFailed:
        return OperationFailed(step=name, code=error.code, title=error.title, detail=error.detail, remedy=error.remedy)

    def _unforeseen(self, name: StepName, error: Exception) -> InternalError:
        log.error("step_met_the_unforeseen", step=name, exc_info=error)
        where = self._ports.reports.write(error, self._ports.clock.now())
        return InternalError(
            detail=f"Step {name} met {type(error).__name__}: {error}. {where}",
            remedy="Start the operation again; if it recurs, send the support report to the makers of Leeward.",
        )

    def _end_surely(self, running: _Running, ending: Event) -> None:
        """Record the end; while the disk is full, try until there is room or the daemon stops."""
        while True:
            try:
                self._end(running, ending)
            except LeewardError as error:
                log.exception("operation_end_not_recorded", operation=running.id, code=error.code)
                if self._stopping.wait(RETRY_INTERVAL_S):
                    return
            else:
                return

    def _end(self, running: _Running, ending: Event) -> None:
        outcome, details = _audited(ending)
        with self._lock:
            self._audit(running.id, running.request.kind, running.actor.name, outcome, details, once=True)
            self._store(running.id, ending)
            self._running = None

    # -- storing -------------------------------------------------------------------------------

    def _refuse_second(self) -> None:
        other = self.unfinished()
        if other is not None:
            raise OperationConflict(
                detail=f"Operation {other.id} ({other.kind}), started by {other.actor}, has not ended.",
                remedy=f"Follow it with `leeward follow {other.id}`, or stop it with `leeward cancel {other.id}`.",
            )

    def _store(self, operation_id: OperationId, event: Event) -> None:
        self._ports.journal.append(operation_id, event, self._ports.clock.now())
        self._wakeups.notify()

    def _audit(
        self,
        operation_id: OperationId,
        action: str,
        actor: str,
        outcome: str,
        details: Mapping[str, str] | None = None,
        *,
        once: bool = False,
    ) -> None:
        """Append to the audit log; `once` looks whether a killed process has already done so."""
        audit = self._ports.audit
        if once and any(
            (entry.object, entry.action, entry.outcome) == (operation_id, action, outcome)
            for entry in audit.entries(max(0, audit.count() - AUDIT_LOOK_BACK))
        ):
            return
        audit.append(actor=actor, action=action, object_=operation_id, outcome=outcome, details=dict(details or {}))

    def _records_after(self, operation_id: OperationId, after: int) -> list[EventRecord]:
        records: list[EventRecord] = []
        while more := self._ports.journal.records(operation_id, after):
            records += more
            after = more[-1].seq
        return records


def _audited(ending: Event) -> tuple[str, dict[str, str]]:
    match ending:
        case OperationSucceeded(summary=summary):
            return "succeeded", {"summary": summary}
        case OperationFailed(step=step, code=code, detail=detail):
            return "failed", {"step": step, "code": code, "detail": detail}
        case OperationCanceled(step=step):
            return "canceled", {"step": step}
        case _:
            raise TypeError(f"{type(ending).__name__} does not end an operation")


def _new_id(at: datetime) -> OperationId:
    """Make a UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then randomness."""
    milliseconds = int(at.timestamp() * 1000)
    number = int.from_bytes(milliseconds.to_bytes(6, "big") + os.urandom(10), "big")
    number = number & ~(0xF << 76) | (0x7 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return OperationId(str(UUID(int=number)))
