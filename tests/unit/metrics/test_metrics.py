"""What is counted and how it is told; dashboard, alerts and handbook speak of what there really is."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from appliance.config import Paths, parse_settings
from appliance.domain.routing import EngineStanding
from appliance.domain.usage import Admission, Settlement, TokenUsage, UsageOutcome, UsageSource, UsageState
from appliance.entrypoints.cli.monitoring import monitoring
from appliance.entrypoints.gateway.exposition import (
    ENGINE_COUNTERS,
    ENGINE_GAUGES,
    EngineState,
    LedgerState,
    MetricsAccess,
    MetricsText,
    Snapshot,
)
from appliance.entrypoints.gateway.metrics import MOST_TEAMS, OTHER_TEAMS, GatewayMetrics, Histogram
from appliance.entrypoints.gateway.tracing import Phases
from appliance.resources import monitoring_file

HANDBOOK = Path(__file__).parents[3] / "docs/observability.md"
OF_PROMETHEUS = {"up"}
"""Series that a Prometheus makes itself."""


def settle(metrics: GatewayMetrics, team: str = "research", outcome: UsageOutcome = UsageOutcome.COMPLETED) -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    admission = Admission(
        request_id="r", key_id="k", team=team, model="m", endpoint="/v1/chat/completions", stream=True, admitted_at=at
    )
    settlement = Settlement(
        request_id="r",
        state=UsageState.SETTLED,
        settled_at=at,
        first_token_at=at,
        http_status=200,
        outcome=outcome,
        finish_reason="stop",
        usage=TokenUsage(prompt_tokens=11, completion_tokens=5, cached_tokens=4, reasoning_tokens=2),
        usage_source=UsageSource.FINAL,
    )
    phases = Phases(
        arrived=1.0, judged=1.1, granted=1.2, admitted=1.3, asked=1.4, answered=1.5, first_token=1.6, ended=2.0
    )
    metrics.settled(admission, settlement, phases)


def engine(name: str, page: str = "") -> EngineState:
    standing = EngineStanding(name=name, is_up=True, is_drained=False, is_spared=False, in_flight=1, failures=0)
    return EngineState(standing=standing, page=page)


def written(metrics: GatewayMetrics, *engines: EngineState, accept: str = "") -> str:
    snapshot = Snapshot(
        model="m",
        queue_slots=8,
        queue_running=1,
        queue_waiting=0,
        queue_waiting_bytes=0,
        in_flight=1,
        ledger=LedgerState(unsettled=1, backlog=0, admits=True, free_bytes=1, reserve_bytes=1),
        engines=engines,
    )
    return MetricsText(metrics).write(snapshot, accept)[0].decode()


@pytest.fixture(scope="module")
def everything() -> dict[str, set[str]]:
    """Return each sample that the page can hold, with the names of its labels."""
    metrics = GatewayMetrics()
    settle(metrics)
    metrics.refused("/v1/messages", "busy")
    page = "".join(f'{name}{{engine="0"}} 1.0\n' for name in (*ENGINE_COUNTERS, *ENGINE_GAUGES))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(written(metrics, engine("one", page))):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[str]:
    panels: list[dict[str, Any]] = json.loads(monitoring_file("grafana-dashboard.json"))["panels"]
    (group,) = yaml.safe_load(monitoring_file("alert-rules.yml"))["groups"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in group["rules"])]


@pytest.mark.parametrize("expression", expressions())
def test_dashboard_and_alerts_ask_for_metrics_and_labels_that_exist(
    everything: dict[str, set[str]], expression: str
) -> None:
    bare = re.sub(r'"[^"]*"', '""', expression)
    names = set(
        re.findall(
            r"\b(?:leeward|gen_ai_server|gen_ai_client|process)_\w+", re.sub(r"\{[^}]*\}|\([a-z_, ]+\)", " ", bare)
        )
    )
    names |= {"up"} if bare.startswith("up{") else set()
    labels = {name for inside in re.findall(r"\{([^}]*)\}", bare) for name in re.findall(r"(\w+)[=!]", inside)}
    labels |= {name for inside in re.findall(r"\bby \(([^)]*)\)", bare) for name in re.split(r",\s*", inside)}

    assert names
    assert names <= everything.keys() | OF_PROMETHEUS
    known = {"instance", "job"}.union(*(everything.get(name, set()) for name in names))
    assert labels <= known


def test_the_dashboards_panels_do_not_overlap_and_alerts_say_what_to_do() -> None:
    dashboard = json.loads(monitoring_file("grafana-dashboard.json"))
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    rules = yaml.safe_load(monitoring_file("alert-rules.yml"))["groups"][0]["rules"]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(rule["labels"]["severity"] in {"critical", "warning"} for rule in rules)
    assert all(rule["annotations"]["description"] for rule in rules)


def test_the_handbook_lists_every_metric_and_no_other(everything: dict[str, set[str]]) -> None:
    told = set(re.findall(r"^\| `((?:leeward|gen_ai)_\w+)`", HANDBOOK.read_text(), re.MULTILINE))
    there = {re.sub(r"_(bucket|sum|count)$", "", name) for name in everything if not name.startswith("process_")}
    there -= {name for name in there if name.endswith("_created")}

    assert told == there


def test_a_bucket_holds_what_lies_at_its_bound() -> None:
    histogram = Histogram((1, 2.5))
    for value in (0.5, 1, 1.1, 2.5, 9):
        histogram.observe(value)

    assert histogram.buckets == [("1.0", 2), ("2.5", 4), ("+Inf", 5)]
    assert histogram.total == 14.1


def test_teams_beyond_the_bound_share_a_name_and_no_token_is_lost() -> None:
    metrics = GatewayMetrics()
    for number in range(MOST_TEAMS + 50):
        settle(metrics, f"team{number}")
        settle(metrics, f"team{number}")

    teams = {team for _, team, _ in metrics.requests}
    assert len(teams) == MOST_TEAMS + 1
    assert metrics.tokens[OTHER_TEAMS, "prompt"] == 50 * 2 * 11
    assert sum(metrics.requests.values()) == 2 * (MOST_TEAMS + 50)


def test_a_teams_name_cannot_break_the_page() -> None:
    metrics = GatewayMetrics()
    settle(metrics, 'a"} 1\nleeward_build_info{x="\\')

    teams = {
        sample.labels["team"]
        for family in text_string_to_metric_families(written(metrics))
        for sample in family.samples
        if sample.name == "leeward_requests_total"
    }
    assert teams == {'a"} 1\nleeward_build_info{x="\\'}


def test_a_request_that_failed_is_in_no_histogram_of_good_streams() -> None:
    metrics = GatewayMetrics()
    settle(metrics, outcome=UsageOutcome.UPSTREAM_LOST)

    assert set(metrics.duration.seen) == {("chat", "upstream_lost")}
    assert metrics.first_token.seen == metrics.output_token.seen == {}


def test_openmetrics_is_written_for_who_prefers_it() -> None:
    assert written(GatewayMetrics(), accept="application/openmetrics-text; version=1.0.0").endswith("# EOF\n")
    assert "# EOF" not in written(GatewayMetrics(), accept="text/plain")


def test_an_engines_page_that_cannot_be_read_is_left_out() -> None:
    text = written(GatewayMetrics(), engine("one", "vllm:num_requests_running{ broken\n"), engine("two"))

    assert 'leeward_engine_up{engine="one"} 1.0' in text
    assert "leeward_engine_requests_running{" not in text


def test_each_engine_is_told_apart() -> None:
    page = 'vllm:num_requests_running{engine="0"} 3.0\n'
    text = written(GatewayMetrics(), engine("one", page), engine("two", page.replace("3", "4")))

    assert 'leeward_engine_requests_running{engine="one"} 3.0' in text
    assert 'leeward_engine_requests_running{engine="two"} 4.0' in text


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic right", "right", "Bearer \udcff"])
def test_only_the_bearer_of_the_token_may_read(given: str) -> None:
    access = MetricsAccess(token_sha256=hashlib.sha256(b"right").hexdigest())

    assert access.allows("bearer right", "10.1.0.9")
    assert not access.allows(given, "10.1.0.9")


def test_the_printed_setting_lets_the_printed_token_in() -> None:
    lines = CliRunner().invoke(monitoring, ["token"]).output.splitlines()
    again = CliRunner().invoke(monitoring, ["token"]).output.splitlines()
    settings = parse_settings("\n".join(lines[4:]), paths=Paths(), host_name="n")

    assert settings.metrics.token_sha256 is not None
    assert MetricsAccess(token_sha256=settings.metrics.token_sha256).allows(f"Bearer {lines[1]}", "10.1.0.9")
    assert lines[1] != again[1]
    assert lines[1] not in "\n".join(lines[2:])


def test_the_files_for_monitoring_are_printed_as_they_are() -> None:
    run = CliRunner()

    assert run.invoke(monitoring, ["dashboard"]).output == monitoring_file("grafana-dashboard.json")
    assert run.invoke(monitoring, ["alerts"]).output == monitoring_file("alert-rules.yml")
    (job,) = yaml.safe_load(run.invoke(monitoring, ["prometheus", "--node", "llm01:8443"]).output)
    assert (job["job_name"], job["scheme"], job["static_configs"]) == (
        "leeward",
        "https",
        [{"targets": ["llm01:8443"]}],
    )
