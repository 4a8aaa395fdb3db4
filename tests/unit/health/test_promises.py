"""What a verdict promises, for any signals at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.health import EngineHealth, Severity, SystemHealth, Verdict
from appliance.services.alerts import Signals, alerts
from appliance.services.health import verdict
from tests.nodes import node
from tests.unit.health.twins import NOW, QUIET

STATES = st.sampled_from(["active", "activating", "reloading", "inactive", "failed", "deactivating", "unknown", "new"])
FACTS = node("four-h200")
SYSTEM = SystemHealth(
    disks=(), certificate_not_after=NOW + timedelta(days=90), license_state="compliant", license_note="",
    audit_entries=0, audit_head="", usage_records=0, usage_unsettled=0, gateway_state="active",
)  # fmt: skip

engines = st.none() | st.builds(
    lambda state, ready: replace(QUIET, unit_state=state, ready=ready), STATES, st.none() | st.booleans()
)
systems = st.builds(
    lambda state, unsettled, days: replace(
        SYSTEM,
        gateway_state=state,
        usage_unsettled=unsettled,
        certificate_not_after=None if days is None else NOW + timedelta(days=days),
    ),
    STATES,
    st.none() | st.integers(0, 3),
    st.none() | st.integers(-5, 60),
)
nodes = st.builds(
    lambda count, errors, heat: replace(
        FACTS,
        gpus=tuple(replace(gpu, ecc_uncorrected=errors, temperature_c=heat) for gpu in FACTS.gpus[:count]),
    ),
    st.integers(0, 4),
    st.none() | st.integers(0, 2),
    st.none() | st.integers(20, 100),
)
signals = st.builds(
    lambda facts, engine, system, required, *, rises: Signals(
        facts=facts,
        engine=engine,
        system=system,
        gpus_required=required,
        engine_rises=rises and engine is not None and engine.unit_state == "active" and engine.ready is not True,
    ),
    nodes,
    engines,
    systems,
    st.sampled_from([None, 0, 4]),
    rises=st.booleans(),
)


@given(signals)
def test_serving_promises_an_active_engine_that_answered_an_active_gateway_and_every_gpu(seen: Signals) -> None:
    found = alerts(seen)

    if verdict(seen, found) is Verdict.SERVING:
        engine: EngineHealth | None = seen.engine
        assert engine is not None
        assert (engine.unit_state, engine.ready) == ("active", True)
        assert seen.system.gateway_state == "active"
        assert len(seen.facts.gpus) >= (seen.gpus_required or 0)
        assert all(alert.severity is not Severity.FAIL for alert in found)


@given(signals)
def test_whatever_is_not_serving_starting_or_empty_has_an_alert_that_says_why(seen: Signals) -> None:
    found = alerts(seen)

    if verdict(seen, found) in {Verdict.DOWN, Verdict.DEGRADED}:
        assert found


@given(signals)
def test_every_alert_has_a_title_without_figures_that_change_and_advice(seen: Signals) -> None:
    for alert in alerts(seen):
        assert alert.title
        assert alert.advice.endswith(".")
        assert alert.code == alert.code.lower()


@given(signals)
def test_a_node_is_empty_if_and_only_if_no_release_is_current(seen: Signals) -> None:
    assert (verdict(seen, alerts(seen)) is Verdict.EMPTY) == (seen.engine is None)
