"""Health: signals folded into one verdict with a cause and a remedy.

`None` means unknown and is shown as `??`; nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from appliance.domain.node import Gpu

RESTART_LOOP: Final = 3
"""Restarts by systemd; one or two may be a passing fault, and systemd itself gives up after five."""


class Verdict(StrEnum):
    """The one word for a node."""

    SERVING = "serving"
    DEGRADED = "degraded"
    STARTING = "starting"
    DOWN = "down"
    EMPTY = "empty"


class Severity(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that needs a person; `advice` is one or two sentences that work offline."""

    code: str
    severity: Severity
    title: str
    advice: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """What the engine's own metrics say. Names follow vLLM's metrics; counters are since start."""

    unit_state: str
    live: bool
    ready: bool | None
    version: str | None
    served_model_name: str | None
    started_at: datetime | None
    requests_running: int | None
    requests_waiting: int | None
    kv_cache_usage_percent: float | None
    prompt_tokens_total: int | None
    generation_tokens_total: int | None
    draft_tokens_total: int | None
    accepted_tokens_total: int | None
    drafts_total: int | None
    time_to_first_token_p50_s: float | None
    time_to_first_token_p95_s: float | None
    inter_token_p50_s: float | None
    inter_token_p95_s: float | None
    ready_age_s: float | None = None
    """Seconds since the known answer that `ready` rests on; `None` where none was asked for."""
    ready_note: str = ""
    restarts: int | None = None
    """How often systemd has restarted the unit by itself since somebody last started it."""

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted ÷ drafted tokens of the EAGLE head, 0 to 1."""
        if not self.draft_tokens_total or self.accepted_tokens_total is None:
            return None
        return self.accepted_tokens_total / self.draft_tokens_total


def restarts_in_a_loop(restarts: int | None) -> bool:
    """Whether so many automatic restarts mean that waiting does not help."""
    return restarts is not None and restarts >= RESTART_LOOP


def is_known_answer(text: str, *, expected: str) -> bool:
    """Whether the engine said what the release expects; space around either does not count."""
    return bool(expected.strip()) and text.strip() == expected.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskHealth:
    path: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemHealth:
    disks: tuple[DiskHealth, ...]
    certificate_not_after: datetime | None
    license_state: str
    license_note: str
    audit_entries: int
    audit_head: str
    usage_records: int | None
    usage_unsettled: int | None
    gateway_state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentEvent:
    at: datetime
    severity: Severity
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    observed_at: datetime
    node: str
    verdict: Verdict
    release: str | None
    alerts: tuple[Alert, ...]
    gpus: tuple[Gpu, ...]
    gpus_required: int | None
    engine: EngineHealth | None
    system: SystemHealth
    events: tuple[RecentEvent, ...]
    simulated: tuple[str, ...]
