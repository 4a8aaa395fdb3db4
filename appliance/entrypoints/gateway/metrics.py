"""What the gateway counts, for the site's own monitoring.

Counting stands on the way of every request, so it is plain integers in plain dictionaries, touched
by the event loop alone: a request costs one call when it is refused or settled, a chunk costs nothing.
`exposition` turns it into Prometheus's text when somebody asks.

Names and buckets of the histograms are OpenTelemetry's for generative AI (semantic conventions,
"Generative AI model server metrics" and `gen_ai.client.token.usage`, status Development), with
underscores as Prometheus has them. Labels are bounded: routes, outcomes and reasons are words of this
program, and of teams the first `MOST_TEAMS` have names of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from appliance.domain.usage import Admission, Settlement, UsageOutcome
from appliance.entrypoints.gateway.tracing import Phases

MOST_TEAMS = 200
OTHER_TEAMS = "(others)"
NO_ERROR = ""

DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OUTPUT_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(4**power for power in range(14))

_OPERATIONS = {"/v1/completions": "text_completion", "/v1/messages/count_tokens": "count_tokens"}
"""OpenTelemetry's names of what is asked for, and one of ours for counting; all else that is admitted is a chat."""


class Histogram:
    """Observations by bucket. A bucket's bound belongs to it, as in Prometheus."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and how many values lie at or below it, up to infinity."""
        found: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*map(float, self._bounds), float("inf")), self._counts, strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), below))
        return found


class Histograms:
    """One histogram for each set of label values that was seen."""

    __slots__ = ("_bounds", "seen")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.seen: dict[tuple[str, ...], Histogram] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Count one value."""
        histogram = self.seen.get(labels)
        if histogram is None:
            histogram = self.seen[labels] = Histogram(self._bounds)
        histogram.observe(value)


class GatewayMetrics:
    """Counts of one gateway process since its start. For the event loop's thread alone."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()  # route, team, outcome
        self.refusals: Counter[tuple[str, str]] = Counter()  # route, reason
        self.tokens: Counter[tuple[str, str]] = Counter()  # team, kind
        self.sources: Counter[str] = Counter()
        self.duration = Histograms(DURATION_S)  # operation, error
        self.first_token = Histograms(FIRST_TOKEN_S)  # operation
        self.output_token = Histograms(OUTPUT_TOKEN_S)  # operation
        self.usage = Histograms(TOKENS)  # operation, kind
        self.queue_wait = Histograms(DURATION_S)
        self._teams: set[str] = set()

    def refused(self, route: str, reason: str) -> None:
        """Count a request that was not taken; `reason` is a word of this program."""
        self.refusals[route, reason] += 1

    def settled(self, admission: Admission, settlement: Settlement, phases: Phases) -> None:
        """Count an admitted request when its record is closed."""
        team, outcome = self._team(admission.team), settlement.outcome
        operation = _OPERATIONS.get(admission.endpoint, "chat")
        self.requests[admission.endpoint, team, outcome.value] += 1
        self.sources[settlement.usage_source.value] += 1
        usage, tokens = settlement.usage, self.tokens
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if prompt is not None:
            tokens[team, "prompt"] += prompt
            self.usage.observe((operation, "input"), prompt)
        if completion is not None:
            tokens[team, "completion"] += completion
            self.usage.observe((operation, "output"), completion)
        if usage.cached_tokens is not None:
            tokens[team, "cached"] += usage.cached_tokens
        if usage.reasoning_tokens is not None:
            tokens[team, "reasoning"] += usage.reasoning_tokens
        if usage.image_tokens is not None:
            tokens[team, "image"] += usage.image_tokens
        is_whole = outcome is UsageOutcome.COMPLETED
        self.duration.observe((operation, NO_ERROR if is_whole else outcome.value), phases.ended - phases.arrived)
        if phases.granted:
            self.queue_wait.observe((), phases.granted - phases.judged)
        if is_whole and phases.first_token:
            self.first_token.observe((operation,), phases.first_token - phases.arrived)
            if completion is not None and completion > 1:
                each = (phases.ended - phases.first_token) / (completion - 1)
                self.output_token.observe((operation,), each)

    def _team(self, name: str) -> str:
        if name not in self._teams:
            if len(self._teams) >= MOST_TEAMS:
                return OTHER_TEAMS
            self._teams.add(name)
        return name
