"""An engine that ends and is restarted by systemd, again and again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from appliance.domain.health import Severity, Verdict
from tests.unit.health.bench import Bench, codes
from tests.unit.health.twins import NOW


def rising(bench: Bench) -> None:
    """Let the engine be young and without an answer yet."""
    bench.engine.says = None
    bench.services.started = NOW - timedelta(seconds=10)
    bench.readiness.ask()


@pytest.mark.parametrize("state", ["active", "activating"])
def test_a_restart_loop_is_down_and_not_starting(bench: Bench, state: str) -> None:
    rising(bench)
    bench.services.states["leeward-engine.service"] = state
    bench.services.restarted = 3

    report = bench.report()

    assert report.verdict is Verdict.DOWN
    assert report.alerts[0].code == "engine-restarts"
    assert report.alerts[0].severity is Severity.FAIL
    assert "restarted it 3 times" in report.alerts[0].advice


def test_one_restart_is_a_warning_and_the_engine_may_still_rise(bench: Bench) -> None:
    rising(bench)
    bench.services.restarted = 1

    report = bench.report()

    assert (report.verdict, codes(report)) == (Verdict.STARTING, {"engine-restarts"})
    assert report.alerts[0].severity is Severity.WARN


def test_an_engine_that_answers_after_many_restarts_serves_with_a_warning(bench: Bench) -> None:
    bench.services.restarted = 4

    report = bench.report()

    assert (report.verdict, codes(report)) == (Verdict.SERVING, {"engine-restarts"})
    assert report.engine is not None
    assert report.engine.restarts == 4


def test_restarts_that_systemd_does_not_tell_are_unknown(bench: Bench) -> None:
    bench.services.broken = True

    report = bench.report()

    assert report.engine is not None
    assert report.engine.restarts is None
    assert "engine-restarts" not in codes(report)
