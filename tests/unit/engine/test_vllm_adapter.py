from __future__ import annotations

import json
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from appliance.adapters.vllm import VllmEngine
from appliance.adapters.vllm.metrics import MetricsPage
from appliance.domain.errors import CommandFailed, EngineNotReady

RECORDED = (Path(__file__).parent / "metrics.txt").read_text(encoding="utf-8")
"""What vLLM 0.32.0 said after seven requests to the tiny pair, cut to the names that are read."""
ANSWER = {
    "choices": [{"message": {"content": "42"}}],
    "usage": {"prompt_tokens": 24, "completion_tokens": 3, "total_tokens": 27},
}
STARTED = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


class Page:
    """What the socket serves, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {
            "/health": (200, ""),
            "/version": (200, '{"version":"0.32.0"}'),
            "/v1/models": (200, '{"data":[{"id":"mistral-medium-3.5"}]}'),
            "/metrics": (200, RECORDED),
            "/v1/chat/completions": (200, json.dumps(ANSWER)),
        }
        self.asked: list[dict[str, Any]] = []


class Services:
    """A service manager that knows one unit, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails

    def active_state(self, unit: str) -> str:
        if self._fails:
            raise CommandFailed(detail="no systemd", remedy="none")
        return f"active:{unit}"

    def started_at(self, unit: str) -> datetime:
        assert unit
        return STARTED


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def socket_path(page: Page, tmp_path: Path) -> Iterator[Path]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = page.answers.get(self.path, (404, ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            page.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.do_GET()

        def address_string(self) -> str:
            return "socket"

        def log_message(self, *_: object) -> None:
            pass

    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "engine.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield tmp_path / "engine.sock"
        server.shutdown()
        thread.join()


def test_health_reads_the_recorded_page(socket_path: Path) -> None:
    health = VllmEngine(socket_path, services=Services()).health()  # type: ignore[arg-type]  # what it uses of it

    assert health.live
    assert health.ready is None
    assert (health.version, health.served_model_name) == ("0.32.0", "mistral-medium-3.5")
    assert (health.unit_state, health.started_at) == ("active:leeward-engine.service", STARTED)
    assert (health.requests_running, health.requests_waiting, health.kv_cache_usage_percent) == (0, 0, 0.0)
    assert (health.prompt_tokens_total, health.generation_tokens_total) == (510, 195)
    assert (health.drafts_total, health.draft_tokens_total, health.accepted_tokens_total) == (89, 217, 92)
    assert health.acceptance_rate == pytest.approx(0.424, abs=0.001)
    assert health.time_to_first_token_p50_s is not None
    assert 0.04 <= health.time_to_first_token_p50_s <= 0.25
    assert health.inter_token_p95_s is not None


def test_health_of_a_socket_that_is_not_there_is_unknown_and_raises_nothing(tmp_path: Path) -> None:
    health = VllmEngine(tmp_path / "nothing.sock").health()

    assert not health.live
    assert health.unit_state == "unknown"
    assert health.version is health.served_model_name is health.requests_running is health.drafts_total is None
    assert health.time_to_first_token_p50_s is health.acceptance_rate is None


def test_health_says_unknown_where_the_service_manager_fails(socket_path: Path) -> None:
    health = VllmEngine(socket_path, services=Services(fails=True)).health()  # type: ignore[arg-type]  # as above

    assert health.live
    assert (health.unit_state, health.started_at) == ("unknown", None)


def test_engine_that_is_dead_behind_its_socket_is_not_live(page: Page, socket_path: Path) -> None:
    page.answers["/health"] = (503, "")

    assert not VllmEngine(socket_path).health().live


def test_engine_that_hangs_costs_one_time_limit_and_not_one_for_each_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.adapters.vllm.engine.PROBE_TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "engine.sock"))
        listening.listen(8)  # it takes connections and never answers

        health = VllmEngine(tmp_path / "engine.sock").health()

        asked = 0
        while select.select([listening], [], [], 0)[0]:
            asked += 1
            listening.accept()[0].close()
    assert not health.live
    assert health.version is health.requests_running is None
    assert asked == 2  # the first question, and the try of its socket before it


@pytest.mark.parametrize("text", ["", "nonsense {", "vllm:num_requests_running not-a-number\n"])
def test_metrics_that_cannot_be_read_are_unknown_not_zero(page: Page, socket_path: Path, text: str) -> None:
    page.answers["/metrics"] = (200, text)

    health = VllmEngine(socket_path).health()

    assert health.live
    assert health.requests_running is health.prompt_tokens_total is health.kv_cache_usage_percent is None


def test_answer_asks_greedily_and_returns_text_and_counts(page: Page, socket_path: Path) -> None:
    answer = VllmEngine(socket_path).answer("What is 17 + 25?", max_tokens=8, timeout_s=5)

    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("42", 24, 3)
    (asked,) = page.asked
    assert asked == {
        "model": "mistral-medium-3.5",
        "messages": [{"role": "user", "content": "What is 17 + 25?"}],
        "max_tokens": 8,
        "temperature": 0,
    }


@pytest.mark.parametrize(
    ("path", "answer", "detail"),
    [
        ("/v1/models", (200, '{"data":[]}'), "no model is served"),
        ("/v1/chat/completions", (500, "{}"), "HTTP 500"),
        ("/v1/chat/completions", (200, "not json"), "another shape"),
        ("/v1/chat/completions", (200, '{"choices":[]}'), "another shape"),
        ("/v1/chat/completions", (200, '{"choices":[{"message":{"content":"x"}}]}'), "another shape"),
    ],
)
def test_answer_that_is_not_complete_means_not_ready(
    page: Page, socket_path: Path, path: str, answer: tuple[int, str], detail: str
) -> None:
    page.answers[path] = answer

    with pytest.raises(EngineNotReady, match=detail):
        VllmEngine(socket_path).answer("?", max_tokens=1, timeout_s=5)


def test_answer_without_a_socket_means_not_ready_and_names_the_socket(tmp_path: Path) -> None:
    with pytest.raises(EngineNotReady, match=r"nothing\.sock"):
        VllmEngine(tmp_path / "nothing.sock").answer("?", max_tokens=1, timeout_s=1)


def test_quantile_interpolates_inside_its_bucket_and_adds_engines_up() -> None:
    page = MetricsPage(
        "# TYPE t histogram\n"
        't_bucket{engine="0",le="1.0"} 1\nt_bucket{engine="0",le="2.0"} 2\nt_bucket{engine="0",le="+Inf"} 2\n'
        't_bucket{engine="1",le="1.0"} 1\nt_bucket{engine="1",le="2.0"} 2\nt_bucket{engine="1",le="+Inf"} 3\n'
    )

    assert page.quantile("t", 0.4) == pytest.approx(1.0)
    assert page.quantile("t", 0.6) == pytest.approx(1.5)
    assert page.quantile("t", 0.99) == 2.0
    assert page.quantile("absent", 0.5) is None


def test_histogram_without_observations_has_no_quantile() -> None:
    assert MetricsPage('# TYPE t histogram\nt_bucket{le="1.0"} 0\nt_bucket{le="+Inf"} 0\n').quantile("t", 0.5) is None
