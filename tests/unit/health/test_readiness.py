"""Readiness rests on a known answer of this run of the engine, and says how old it is."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from appliance.domain.health import is_known_answer
from appliance.services.readiness import ReadinessLimits, ReadinessProbe
from bundles.release import KnownAnswer
from tests.unit.health.twins import TwinEngine, TwinServices, Watch

QUESTION = KnownAnswer(prompt="2+2=", expected="4", max_tokens=4)


class Bench:
    def __init__(self) -> None:
        self.engine = TwinEngine()
        self.services = TwinServices()
        self.watch = Watch()
        self.question: KnownAnswer | None = QUESTION
        self.probe = ReadinessProbe(
            engine=self.engine,
            services=self.services,
            known_answer=lambda: self.question,
            limits=ReadinessLimits(interval_s=0.01, retry_s=0.01),
            monotonic=self.watch,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_before_the_first_question_nothing_is_known(bench: Bench) -> None:
    last = bench.probe.last()

    assert (last.ready, last.age_s, last.was_ready) == (None, None, False)
    assert bench.engine.asked == []


def test_the_known_answer_makes_the_engine_ready_and_has_an_age(bench: Bench) -> None:
    bench.probe.ask()
    bench.watch.seconds += 42

    last = bench.probe.last(engine_started_at=bench.services.started)

    assert (last.ready, last.age_s, last.was_ready) == (True, 42.0, True)


def test_another_answer_is_not_ready_and_is_not_repeated(bench: Bench) -> None:
    bench.engine.says = "five"

    last = bench.probe.ask()

    assert last.ready is False
    assert "another answer" in last.note
    assert "five" not in last.note


def test_an_engine_that_does_not_answer_is_not_ready_and_says_why(bench: Bench) -> None:
    bench.engine.says = None

    last = bench.probe.ask()

    assert (last.ready, last.note) == (False, "the socket refuses the connection")


def test_an_old_answer_becomes_unknown(bench: Bench) -> None:
    bench.probe.ask()
    bench.watch.seconds += 181

    last = bench.probe.last()

    assert last.ready is None
    assert last.was_ready
    assert "181 s old" in last.note


def test_an_answer_of_an_earlier_run_does_not_count(bench: Bench) -> None:
    bench.probe.ask()
    assert bench.services.started
    bench.services.started += timedelta(hours=1)

    last = bench.probe.last(engine_started_at=bench.services.started)

    assert (last.ready, last.was_ready) == (None, False)


def test_an_engine_that_fell_silent_is_remembered_as_having_been_ready(bench: Bench) -> None:
    bench.probe.ask()
    bench.engine.says = None

    last = bench.probe.ask()

    assert (last.ready, last.was_ready) == (False, True)


def test_nobody_is_asked_without_a_release_or_without_a_running_unit(bench: Bench) -> None:
    bench.question = None
    bench.probe.ask()
    bench.question = QUESTION
    bench.services.stop("leeward-engine.service")
    bench.probe.ask()
    bench.services.broken = True
    bench.probe.ask()

    assert bench.engine.asked == []
    assert bench.probe.last().ready is None


def test_the_thread_asks_at_once_and_again_and_stops_when_told(bench: Bench) -> None:
    before = threading.active_count()

    bench.probe.start()
    for _ in range(500):
        if len(bench.engine.asked) >= 3:
            break
        threading.Event().wait(0.01)
    bench.probe.stop()

    asked = len(bench.engine.asked)
    assert asked >= 3
    assert threading.active_count() == before
    threading.Event().wait(0.05)
    assert len(bench.engine.asked) == asked


def test_a_question_that_breaks_does_not_end_the_asking(bench: Bench) -> None:
    answers = iter([RuntimeError("unforeseen")])

    def question() -> KnownAnswer:
        for error in answers:
            raise error
        return QUESTION

    probe = ReadinessProbe(
        engine=bench.engine,
        services=bench.services,
        known_answer=question,
        limits=ReadinessLimits(interval_s=0.01, retry_s=0.01),
        monotonic=bench.watch,
    )

    probe.start()
    for _ in range(500):
        if bench.engine.asked:
            break
        threading.Event().wait(0.01)
    probe.stop()

    assert probe.last().ready is True


@pytest.mark.parametrize(
    ("text", "expected", "known"),
    [("4", "4", True), (" 4\n", "4", True), ("44", "4", False), ("", "4", False), ("", "", False), (" ", " ", False)],
)
def test_a_known_answer_is_known_to_the_letter(text: str, expected: str, *, known: bool) -> None:
    assert is_known_answer(text, expected=expected) is known
