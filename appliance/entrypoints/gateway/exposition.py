"""`GET /metrics`: Prometheus's text, for the site's own monitoring.

Whoever asks gives a bearer token of its own, of which the site configuration holds the SHA-256
(`[metrics] token_sha256`). It is no API key: a monitoring system must not be able to ask the model, a
tenant must not see other teams' counts, and the page must be readable when the ledger, which holds
the keys, is not. Without that setting there is no page.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from appliance.adapters.vllm.metrics import MetricsPage
from appliance.domain.routing import EngineStanding
from appliance.domain.tenancy import is_within, networks_of
from appliance.entrypoints.gateway.metrics import GatewayMetrics, Histograms

PROVIDER = "mistral_ai"
"""OpenTelemetry's name of who made the model."""

ENGINE_COUNTERS: Mapping[str, str] = {
    "vllm:prompt_tokens_total": "leeward_engine_prompt_tokens",
    "vllm:generation_tokens_total": "leeward_engine_generation_tokens",
    "vllm:spec_decode_num_drafts_total": "leeward_engine_drafts",
    "vllm:spec_decode_num_draft_tokens_total": "leeward_engine_drafted_tokens",
    "vllm:spec_decode_num_accepted_tokens_total": "leeward_engine_accepted_tokens",
    "vllm:prefix_cache_queries_total": "leeward_engine_prefix_cache_queried_tokens",
    "vllm:prefix_cache_hits_total": "leeward_engine_prefix_cache_hit_tokens",
    "vllm:num_preemptions_total": "leeward_engine_preemptions",
}
"""What is told on of the engine's own page: its name there, and here, where `_total` follows."""
ENGINE_GAUGES: Mapping[str, str] = {
    "vllm:num_requests_running": "leeward_engine_requests_running",
    "vllm:num_requests_waiting": "leeward_engine_requests_waiting",
    "vllm:kv_cache_usage_perc": "leeward_engine_kv_cache_usage_ratio",
}
_TOLD_ON = (*ENGINE_COUNTERS, *ENGINE_GAUGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsAccess:
    """Who may read the page: the bearer of a token, from some networks (none: from anywhere)."""

    token_sha256: str
    networks: tuple[str, ...] = ()

    def allows(self, authorization: str, address: str) -> bool:
        """Whether a request with this `Authorization` header from this address may read."""
        scheme, _, token = authorization.partition(" ")
        seen = hashlib.sha256(token.strip().encode("latin-1", "replace")).hexdigest()
        is_bearer = scheme.lower() == "bearer" and hmac.compare_digest(seen, self.token_sha256.lower())
        return is_bearer and (not self.networks or is_within(address, networks_of(self.networks)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """One engine as the gateway sees it. `page` is what it says of itself; empty where it says nothing."""

    standing: EngineStanding
    page: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """The ledger as its writer sees it; `unsettled` is `None` where it cannot be read."""

    unsettled: int | None
    backlog: int
    admits: bool
    free_bytes: int | None
    reserve_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is not counted but looked at when the page is asked for."""

    model: str
    queue_slots: int
    queue_running: int
    queue_waiting: int
    queue_waiting_bytes: int
    in_flight: int
    ledger: LedgerState
    engines: tuple[EngineState, ...]
    retries: int = 0


class MetricsText:
    """Writes the page."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._process = ProcessCollector(registry=None)

    def write(self, snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type: OpenMetrics where the reader prefers it, else Prometheus's text."""
        encode, content_type = choose_encoder(accept)
        return encode(_Once(lambda: self._families(snapshot))), content_type

    def _families(self, snapshot: Snapshot) -> Iterator[Metric]:
        metrics = self._metrics
        yield _gauge("leeward_build_info", "This version, and the model it serves.", ("version", "model"),
                     [((version("leeward"), snapshot.model), 1)])  # fmt: skip
        yield _counter("leeward_requests", "Admitted requests that have ended.", ("route", "team", "outcome"),
                       sorted(metrics.requests.items()))  # fmt: skip
        yield _counter("leeward_refusals", "Requests that were not taken; the engine did not hear of them.",
                       ("route", "reason"), sorted(metrics.refusals.items()))  # fmt: skip
        yield _counter("leeward_tokens", "Tokens of ended requests; cached and image are among prompt, reasoning "
                       "among completion.", ("team", "kind"), sorted(metrics.tokens.items()))  # fmt: skip
        yield _counter("leeward_usage_source", "Ended requests by where their counts come from.", ("source",),
                       [((source,), count) for source, count in sorted(metrics.sources.items())])  # fmt: skip
        yield from _gen_ai(metrics, snapshot.model)
        yield _histogram("leeward_queue_wait_seconds", "Wait for a turn at the engine.", (), metrics.queue_wait)
        yield from _gauges(snapshot)
        yield from _engines(snapshot)
        yield from self._process.collect()


class _Once:
    """What prometheus_client's encoders take for a registry."""

    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self.collect = families


Rows = Iterable[tuple[Sequence[str], float]]


def _counter(name: str, text: str, labels: tuple[str, ...], found: Rows) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in found:
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], found: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in found:
        family.add_metric(values, value)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...], found: Histograms, fixed: tuple[str, ...] = ()) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in sorted(found.seen.items()):
        family.add_metric((*fixed, *values), histogram.buckets, histogram.total)
    return family


def _gen_ai(metrics: GatewayMetrics, model: str) -> Iterator[Metric]:
    """OpenTelemetry's: `error_type` is empty where the request was completed."""
    labels = ("gen_ai_provider_name", "gen_ai_request_model", "gen_ai_operation_name")
    fixed = (PROVIDER, model)
    yield _histogram(
        "gen_ai_server_request_duration_seconds", "From a request's arrival to the end of its answer.",
        (*labels, "error_type"), metrics.duration, fixed,
    )  # fmt: skip
    yield _histogram(
        "gen_ai_server_time_to_first_token_seconds", "From a stream's arrival to its first token.",
        labels, metrics.first_token, fixed,
    )  # fmt: skip
    yield _histogram(
        "gen_ai_server_time_per_output_token_seconds", "Time for each token after a stream's first.",
        labels, metrics.output_token, fixed,
    )  # fmt: skip
    yield _histogram(
        "gen_ai_client_token_usage", "Tokens of a request, where they are known.",
        (*labels, "gen_ai_token_type"), metrics.usage, fixed,
    )  # fmt: skip


def _gauges(snapshot: Snapshot) -> Iterator[Metric]:
    ledger = snapshot.ledger
    plain: tuple[tuple[str, str, float | None], ...] = (
        ("leeward_requests_in_flight", "Admitted requests that have not ended.", snapshot.in_flight),
        ("leeward_queue_slots", "How many requests the engines take at a time.", snapshot.queue_slots),
        ("leeward_queue_running", "Requests that have a slot.", snapshot.queue_running),
        ("leeward_queue_waiting", "Requests that wait for a slot.", snapshot.queue_waiting),
        ("leeward_queue_waiting_bytes", "Bytes of the bodies that wait.", snapshot.queue_waiting_bytes),
        ("leeward_ledger_admits", "1 if the ledger takes new requests.", float(ledger.admits)),
        ("leeward_ledger_unsettled_records", "Records that are open, those in flight among them.", ledger.unsettled),
        ("leeward_ledger_writer_backlog", "Entries that wait for the ledger's writer.", ledger.backlog),
        ("leeward_ledger_disk_free_bytes", "Free space on the ledger's disk.", ledger.free_bytes),
        ("leeward_ledger_disk_reserve_bytes", "Free space below which no request is taken.", ledger.reserve_bytes),
    )
    for name, text, value in plain:
        if value is not None:
            yield _gauge(name, text, (), [((), value)])


def _engines(snapshot: Snapshot) -> Iterator[Metric]:
    engines = [one.standing for one in snapshot.engines]
    states: tuple[tuple[str, str, Callable[[EngineStanding], float]], ...] = (
        ("leeward_engine_up", "1 if the engine answers.", lambda one: one.is_up),
        ("leeward_engine_drained", "1 if an administrator took it out.", lambda one: one.is_drained),
        ("leeward_engine_breaker_open", "1 if it is spared after failures in a row.", lambda one: one.is_spared),
        ("leeward_engine_in_flight", "Requests of this gateway that it works on.", lambda one: one.in_flight),
    )
    for name, text, value in states:
        yield _gauge(name, text, ("engine",), [((one.name,), value(one)) for one in engines])
    yield _counter("leeward_engine_failures", "Connections that were refused or broke.", ("engine",),
                   [((one.name,), one.failures) for one in engines])  # fmt: skip
    yield _counter("leeward_engine_retries", "Requests that went to another engine before one had a byte of them.", (),
                   [((), snapshot.retries)])  # fmt: skip
    pages = [(one.standing.name, _page(one.page)) for one in snapshot.engines if one.page]
    for theirs, ours in ENGINE_COUNTERS.items():
        found = [((name,), float(total)) for name, page in pages if (total := page.total(theirs)) is not None]
        yield _counter(ours, f"The engine's own {theirs}.", ("engine",), found)
    for theirs, ours in ENGINE_GAUGES.items():
        found = [((name,), highest) for name, page in pages if (highest := page.highest(theirs)) is not None]
        yield _gauge(ours, f"The engine's own {theirs}.", ("engine",), found)


def _page(text: str) -> MetricsPage:
    """Read the few lines that are told on; the others cost more to read than all else here."""
    told = "\n".join(line for line in text.splitlines() if line.startswith(_TOLD_ON))
    try:
        return MetricsPage(f"{told}\n")
    except ValueError:
        return MetricsPage("")
