"""Step `start`: engine and gateway run with the current slot, and the engine gives the known answer.

A unit that began before the slot became current is started anew; one that began after it is left
alone, so a second run of this step does not load the weights again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.domain.errors import EngineNotReady, EngineStartFailed
from appliance.domain.events import LogLine
from appliance.domain.health import RESTART_LOOP, is_known_answer
from appliance.ports import Engine, ServiceManager, Slots
from appliance.services.health import GATEWAY_UNIT
from appliance.services.readiness import ENGINE_UNIT
from appliance.services.steps import StepContext
from appliance.services.steps.provision import slot_to_serve
from bundles.release import KnownAnswer

TAIL_LINES = 40
DEAD_STATES = frozenset({"failed", "inactive"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLimits:
    """Times in seconds. An engine may take an hour to its first answer: 134 GB from a slow disk, then compiling."""

    ready_timeout_s: float = 3_600.0
    pause_s: float = 2.0
    answer_timeout_s: float = 120.0
    report_interval_s: float = 15.0


class StartStep:
    """Starts the units. Raises EngineStartFailed with the log's tail, EngineNotReady, CommandFailed, Canceled."""

    def __init__(
        self,
        *,
        slots: Slots,
        services: ServiceManager,
        engine: Engine,
        limits: StartLimits | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._services = services
        self._engine = engine
        self._limits = limits or StartLimits()
        self._sleep = sleep
        self._monotonic_s = monotonic_s

    def run(self, context: StepContext) -> str:
        """Start, then wait for the known answer."""
        slot = slot_to_serve(self._slots)
        release = self._slots.release(slot)
        if release.engine is None:
            raise EngineNotReady(detail=f"{slot} holds no engine.", remedy="Install a release, not evidence.")
        for unit in (ENGINE_UNIT, GATEWAY_UNIT):
            if not self._runs_this_slot(unit):
                context.emit(LogLine(text=f"starting {unit}"))
                self._services.restart(unit)
        took_s = self._wait(release.engine.known_answer, context)
        return f"{release.engine.served_model_name} gave the known answer after {took_s:.0f} s"

    def _runs_this_slot(self, unit: str) -> bool:
        started_at, activated_at = self._services.started_at(unit), self._slots.activated_at()
        return started_at is not None and activated_at is not None and started_at >= activated_at

    def _wait(self, question: KnownAnswer, context: StepContext) -> float:
        began_s = reported_s = self._monotonic_s()
        restarts_before = self._services.automatic_restarts(ENGINE_UNIT)
        while True:
            context.stop_if_canceled()
            complaint = self._ask(question)
            waited_s = self._monotonic_s() - began_s
            if complaint is None:
                return waited_s
            state = self._services.active_state(ENGINE_UNIT)
            restarts = self._services.automatic_restarts(ENGINE_UNIT) - restarts_before
            if restarts >= RESTART_LOOP:
                raise self._dead(f"{state} after {restarts} restarts by systemd", complaint, waited_s)
            if state in DEAD_STATES or waited_s > self._limits.ready_timeout_s:
                raise self._dead(state, complaint, waited_s)
            if self._monotonic_s() - reported_s >= self._limits.report_interval_s:
                reported_s = self._monotonic_s()
                context.emit(LogLine(text=f"engine {state} for {waited_s:.0f} s: {complaint}"))
            self._sleep(self._limits.pause_s)

    def _ask(self, question: KnownAnswer) -> str | None:
        """Return what is wrong, or `None` for the known answer."""
        try:
            said = self._engine.answer(
                question.prompt, max_tokens=question.max_tokens, timeout_s=self._limits.answer_timeout_s
            )
        except EngineNotReady as error:
            return error.detail
        if is_known_answer(said.text, expected=question.expected):
            return None
        raise EngineNotReady(
            detail="The engine answered the known question otherwise than the release says it must.",
            remedy="Do not serve with it. Run `leeward provision` again; if it recurs, import the release anew.",
        )

    def _dead(self, state: str, complaint: str, waited_s: float) -> EngineStartFailed:
        tail = self._services.log_tail(ENGINE_UNIT, TAIL_LINES)
        return EngineStartFailed(
            detail=f"After {waited_s:.0f} s {ENGINE_UNIT} is {state}: {complaint}\n{tail}",
            remedy="Read the engine's own words above (runbook: engine-does-not-start), then run `leeward provision`.",
        )
