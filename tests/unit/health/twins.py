"""Twins of engine and systemd for health."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from appliance.domain.errors import CommandFailed, EngineNotReady
from appliance.domain.health import EngineHealth
from appliance.ports import KnownAnswer

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)

QUIET = EngineHealth(
    unit_state="active", live=True, ready=None, version="0.32.0", served_model_name="mistral-medium", started_at=None,
    requests_running=0, requests_waiting=0, kv_cache_usage_percent=1.0, prompt_tokens_total=0,
    generation_tokens_total=0, draft_tokens_total=0, accepted_tokens_total=0, drafts_total=0,
    time_to_first_token_p50_s=None, time_to_first_token_p95_s=None, inter_token_p50_s=None, inter_token_p95_s=None,
)  # fmt: skip


class TwinEngine:
    def __init__(self, says: str | None = "4") -> None:
        self.says = says
        self.seen = QUIET
        self.asked: list[str] = []

    def health(self) -> EngineHealth:
        return self.seen

    def in_flight(self, running: int) -> None:
        self.seen = replace(self.seen, requests_running=running)

    def answer(self, prompt: str, *, max_tokens: int, timeout_s: float) -> KnownAnswer:
        del max_tokens, timeout_s
        self.asked.append(prompt)
        if self.says is None:
            raise EngineNotReady(detail="the socket refuses the connection", remedy="Wait.")
        return KnownAnswer(text=self.says, prompt_tokens=5, completion_tokens=1)


class TwinServices:
    def __init__(self) -> None:
        self.states = {"leeward-engine.service": "active", "leeward-gateway.service": "active"}
        self.started: datetime | None = NOW - timedelta(hours=3)
        self.broken = False
        self.restarted = 0

    def start(self, unit: str) -> None:
        self.states[unit] = "active"

    def stop(self, unit: str) -> None:
        self.states[unit] = "inactive"

    def restart(self, unit: str) -> None:
        self.start(unit)

    def active_state(self, unit: str) -> str:
        if self.broken:
            raise CommandFailed(detail="systemctl hangs", remedy="Look.")
        return self.states[unit]

    def started_at(self, unit: str) -> datetime | None:
        return self.started if self.active_state(unit) == "active" else None

    def automatic_restarts(self, unit: str) -> int:
        if self.broken:
            raise CommandFailed(detail="systemctl hangs", remedy="Look.")
        return self.restarted if unit == "leeward-engine.service" else 0

    def log_tail(self, unit: str, lines: int) -> str:
        return f"{unit} {lines}"


class Watch:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds
