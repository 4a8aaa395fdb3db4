"""Readiness: the engine has just given the known answer.

A process that runs and a port that answers prove little; the release carries a greedy question
whose answer only the right weights give. It is asked at start, then every minute, and every few
seconds while the engine is not ready. What `last` says always rests on an answer of this run of the
engine and carries its age; one that is too old counts as unknown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from appliance.domain.errors import CommandFailed, EngineError
from appliance.domain.health import is_known_answer
from appliance.ports import Engine, ServiceManager
from bundles.release import KnownAnswer

log = structlog.get_logger()

ENGINE_UNIT: Final = "leeward-engine.service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """`ready` is `None` while unknown; `was_ready` tells an engine that fell from one that rises."""

    ready: bool | None
    age_s: float | None
    note: str
    was_ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessLimits:
    """Times in seconds. `max_age_s` is how old an answer may be and still count."""

    interval_s: float = 60.0
    retry_s: float = 5.0
    answer_timeout_s: float = 30.0
    max_age_s: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    ready: bool
    note: str
    at_s: float
    engine_started_at: datetime | None
    was_ready: bool


class ReadinessProbe:
    """Asks the engine the known question. Thread-safe; `start` asks in a thread of its own."""

    def __init__(
        self,
        *,
        engine: Engine,
        services: ServiceManager,
        known_answer: Callable[[], KnownAnswer | None],
        limits: ReadinessLimits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._services = services
        self._known_answer = known_answer
        self._limits = limits or ReadinessLimits()
        self._monotonic = monotonic
        self._asked: _Asked | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def ask(self) -> Readiness:
        """Ask now and remember the outcome; unknown where no release is current or the engine's unit is not active."""
        question = self._known_answer()
        started_at = self._started_at()
        if question is None or started_at is None:
            self._asked = None
            return self.last()
        ready, note = self._answer(question)
        before = self._asked
        same_run = before is not None and before.engine_started_at == started_at
        self._asked = _Asked(
            ready=ready,
            note=note,
            at_s=self._monotonic(),
            engine_started_at=started_at,
            was_ready=ready or (same_run and before is not None and before.was_ready),
        )
        return self.last()

    def last(self, *, engine_started_at: datetime | None = None) -> Readiness:
        """Return what is known, with its age. Give the engine's start to leave out an earlier run's answers."""
        asked = self._asked
        if asked is None or (engine_started_at is not None and asked.engine_started_at != engine_started_at):
            return Readiness(ready=None, age_s=None, note="the known question has not been asked yet")
        age_s = self._monotonic() - asked.at_s
        if age_s > self._limits.max_age_s:
            note = f"the last answer to the known question is {age_s:.0f} s old"
            return Readiness(ready=None, age_s=age_s, note=note, was_ready=asked.was_ready)
        return Readiness(ready=asked.ready, age_s=age_s, note=asked.note, was_ready=asked.was_ready)

    def start(self) -> None:
        """Ask at once and go on asking until `stop`."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)
        self._thread.start()

    def stop(self, *, timeout_s: float = 1.0) -> None:
        """Ask no more; waits up to `timeout_s` for a question that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            is_ready = self._asked_safely()
            self._stop.wait(self._limits.interval_s if is_ready else self._limits.retry_s)

    def _asked_safely(self) -> bool:
        try:
            return self.ask().ready is True
        except Exception:  # the outermost place of this thread; the last answer ages and becomes unknown
            log.exception("known_question_not_asked")
            return False

    def _started_at(self) -> datetime | None:
        try:
            return self._services.started_at(ENGINE_UNIT)
        except CommandFailed:
            return None

    def _answer(self, question: KnownAnswer) -> tuple[bool, str]:
        try:
            said = self._engine.answer(
                question.prompt, max_tokens=question.max_tokens, timeout_s=self._limits.answer_timeout_s
            )
        except EngineError as error:
            return False, error.detail
        if is_known_answer(said.text, expected=question.expected):
            return True, "the known question got the known answer"
        return False, "the known question got another answer than the release expects"
