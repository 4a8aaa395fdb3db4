"""The running vLLM over its Unix socket: health, metrics, and one known question.

The only places that know vLLM's routes. Nothing is cached between calls, so a restarted engine is
seen as it is. No prompt and no answer is logged.
"""

from __future__ import annotations

import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from appliance.adapters.vllm.metrics import MetricsPage
from appliance.domain.errors import EngineNotReady, NodeError
from appliance.domain.health import EngineHealth
from appliance.ports import KnownAnswer, ServiceManager

UNIT = "leeward-engine.service"
PROBE_TIMEOUT_S = 2.0
UNKNOWN = "unknown"
_BASE = "http://engine"


class VllmEngine:
    """Implements `appliance.ports.Engine`.

    A look at an engine that hangs ends with the first question that gets no answer, so it takes no
    longer than PROBE_TIMEOUT_S.

    With `services`, the unit's state and start time are asked of it; without, the state is
    "unknown" and the start time `None`. `ready` is always `None` here: only a known answer shows it.
    """

    def __init__(self, socket_path: Path, *, services: ServiceManager | None = None, unit: str = UNIT) -> None:
        self._socket_path = socket_path
        self._services = services
        self._unit = unit

    def health(self) -> EngineHealth:
        state, started_at = self._unit_state()
        with self._client(PROBE_TIMEOUT_S) as client:
            page = _metrics(client)
            return EngineHealth(
                unit_state=state,
                live=_is_live(client),
                ready=None,
                version=_version(client),
                served_model_name=_served_model_name(client),
                started_at=started_at,
                requests_running=page.total("vllm:num_requests_running"),
                requests_waiting=page.total("vllm:num_requests_waiting"),
                kv_cache_usage_percent=_percent(page.highest("vllm:kv_cache_usage_perc")),
                prompt_tokens_total=page.total("vllm:prompt_tokens_total"),
                generation_tokens_total=page.total("vllm:generation_tokens_total"),
                draft_tokens_total=page.total("vllm:spec_decode_num_draft_tokens_total"),
                accepted_tokens_total=page.total("vllm:spec_decode_num_accepted_tokens_total"),
                drafts_total=page.total("vllm:spec_decode_num_drafts_total"),
                time_to_first_token_p50_s=page.quantile("vllm:time_to_first_token_seconds", 0.50),
                time_to_first_token_p95_s=page.quantile("vllm:time_to_first_token_seconds", 0.95),
                inter_token_p50_s=page.quantile("vllm:inter_token_latency_seconds", 0.50),
                inter_token_p95_s=page.quantile("vllm:inter_token_latency_seconds", 0.95),
            )

    def answer(self, prompt: str, *, max_tokens: int, timeout_s: float) -> KnownAnswer:
        """Ask one greedy chat question; raises EngineNotReady where no complete answer comes."""
        with self._client(timeout_s) as client:
            model = _served_model_name(client)
            if model is None:
                raise _not_ready(f"no model is served on {self._socket_path}")
            body = {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": max_tokens,
                "temperature": 0,
            }
            try:
                response = client.post("/v1/chat/completions", json=body)
                response.raise_for_status()
                return _known_answer(response.json())
            except httpx.HTTPStatusError as error:
                raise _not_ready(f"the known question was answered with HTTP {error.response.status_code}") from error
            except httpx.TransportError as error:
                raise _not_ready(f"the known question got no answer: {type(error).__name__}") from error
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise _not_ready("the answer to the known question has another shape than vLLM's") from error

    def _client(self, timeout_s: float) -> httpx.Client:
        return httpx.Client(transport=_UnixTransport(self._socket_path), base_url=_BASE, timeout=timeout_s)

    def _unit_state(self) -> tuple[str, datetime | None]:
        if self._services is None:
            return UNKNOWN, None
        try:
            return self._services.active_state(self._unit), self._services.started_at(self._unit)
        except NodeError:
            return UNKNOWN, None


class _UnixTransport(httpx.HTTPTransport):
    """HTTP over a Unix socket that is tried first.

    httpcore 1.0 leaves a socket open when connecting it fails, which is what happens, every few
    seconds, while an engine loads. After one request without an answer none is sent any more, so that
    a series of questions to an engine that hangs takes one time limit and not one for each.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(uds=str(path))
        self._path = path
        self._is_silent = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._is_silent:
            raise httpx.ConnectError(f"{self._path}: no answer to the request before", request=request)
        try:
            return self._handle(request)
        except httpx.TransportError:
            self._is_silent = True
            raise

    def _handle(self, request: httpx.Request) -> httpx.Response:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PROBE_TIMEOUT_S)
            try:
                probe.connect(str(self._path))
            except OSError as error:
                raise httpx.ConnectError(f"{self._path}: {error.strerror or error}", request=request) from error
        return super().handle_request(request)


def _get(client: httpx.Client, path: str) -> httpx.Response | None:
    try:
        response = client.get(path)
    except httpx.TransportError:
        return None
    return response if response.is_success else None


def _is_live(client: httpx.Client) -> bool:
    return _get(client, "/health") is not None


def _version(client: httpx.Client) -> str | None:
    response = _get(client, "/version")
    return None if response is None else _text(response, "version")


def _served_model_name(client: httpx.Client) -> str | None:
    response = _get(client, "/v1/models")
    return None if response is None else _text(response, "data", 0, "id")


def _text(response: httpx.Response, *path: str | int) -> str | None:
    """Return the text at a place in a JSON answer; `None` where there is none."""
    try:
        value: Any = response.json()
        for key in path:
            value = value[key]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return value if isinstance(value, str) else None


def _metrics(client: httpx.Client) -> MetricsPage:
    response = _get(client, "/metrics")
    try:
        return MetricsPage("" if response is None else response.text)
    except ValueError:
        return MetricsPage("")


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100


def _known_answer(body: Any) -> KnownAnswer:  # noqa: ANN401  JSON from the engine, checked by use
    usage = body["usage"]
    return KnownAnswer(
        text=str(body["choices"][0]["message"]["content"] or ""),
        prompt_tokens=int(usage["prompt_tokens"]),
        completion_tokens=int(usage["completion_tokens"]),
    )


def _not_ready(detail: str) -> EngineNotReady:
    return EngineNotReady(
        detail=detail,
        remedy=f"Look at `journalctl -u {UNIT}`; if the engine is loading, wait, otherwise restart the unit.",
    )
