"""What the console has seen of the node so far: the last report, its short past, and any trouble.

Pure values; the app makes a new one after each look at the node and every screen draws from it.
The past is kept for sparklines only and dies with the console: truth lives in the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from appliance.domain.health import HealthReport
from bundles.errors import LeewardError

SAMPLES_KEPT = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The few figures of one report that are drawn over time."""

    at: datetime
    busy_percent: dict[int, int | None]
    requests_waiting: int | None
    generation_tokens_total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Samples, oldest first."""

    samples: tuple[Sample, ...] = ()

    def extended(self, report: HealthReport) -> History:
        """Return this history with one more sample; the same observation twice adds nothing."""
        if self.samples and self.samples[-1].at >= report.observed_at:
            return self
        engine = report.engine
        sample = Sample(
            at=report.observed_at,
            busy_percent={gpu.index: gpu.utilization_percent for gpu in report.gpus},
            requests_waiting=engine.requests_waiting if engine else None,
            generation_tokens_total=engine.generation_tokens_total if engine else None,
        )
        return History(samples=(*self.samples[1 - SAMPLES_KEPT :], sample))

    def busy(self, index: int) -> list[float | None]:
        """Return how busy one GPU was, in per cent."""
        return [sample.busy_percent.get(index) for sample in self.samples]

    def waiting(self) -> list[float | None]:
        """Return how many requests waited."""
        return [sample.requests_waiting for sample in self.samples]

    def speed(self) -> list[float | None]:
        """Return generated tokens per second between neighbours; unknown across an engine restart."""
        rates: list[float | None] = []
        for before, after in zip(self.samples, self.samples[1:], strict=False):
            passed_s = (after.at - before.at).total_seconds()
            old, new = before.generation_tokens_total, after.generation_tokens_total
            rates.append(None if old is None or new is None or new < old else (new - old) / passed_s)
        return rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why the last look at the node failed, and when the next one is due."""

    code: str
    title: str
    detail: str
    remedy: str
    since: datetime
    retry_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Everything that the screens draw about the node."""

    report: HealthReport | None = None
    history: History = History()
    trouble: Trouble | None = None
    paused: bool = False

    def seen(self, report: HealthReport) -> Watch:
        """Return what is known after a look that succeeded."""
        return Watch(report=report, history=self.history.extended(report), trouble=None)

    def failed(self, error: LeewardError, *, now: datetime, retry_at: datetime) -> Watch:
        """Return what is known after a look that failed; the last report stays and ages."""
        trouble = Trouble(
            code=error.code, title=error.title, detail=error.detail, remedy=error.remedy,
            since=self.trouble.since if self.trouble else now, retry_at=retry_at,
        )  # fmt: skip
        return replace(self, trouble=trouble)

    def age_s(self, now: datetime) -> float | None:
        """Return the age of the last report in seconds, or `None` where there is none."""
        return None if self.report is None else max(0.0, (now - self.report.observed_at).total_seconds())

    def is_stale(self, now: datetime, stale_after_s: float) -> bool:
        """Say whether the values shown are too old to be called the present."""
        age_s = self.age_s(now)
        return age_s is not None and (self.trouble is not None or age_s > stale_after_s)
