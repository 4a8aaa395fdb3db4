"""Read vLLM's `/metrics` page (Prometheus text format) into numbers. Pure: text in, values out.

Names are those of vLLM 0.32.0. Samples of several engine processes are added up; a name that is
missing gives `None`, never zero.
"""

from __future__ import annotations

import math
from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

Buckets = dict[float, float]


class MetricsPage:
    """One reading of `/metrics`. Raises ValueError where the text is not Prometheus text format."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[float]] = defaultdict(list)
        self._buckets: dict[str, Buckets] = defaultdict(lambda: defaultdict(float))
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.endswith("_bucket") and "le" in sample.labels:
                    self._buckets[sample.name.removesuffix("_bucket")][float(sample.labels["le"])] += sample.value
                else:
                    self._samples[sample.name].append(sample.value)

    def total(self, name: str) -> int | None:
        """Return the sum over all samples of a counter or gauge, as a whole number."""
        values = self._samples.get(name)
        return None if values is None else int(sum(values))

    def highest(self, name: str) -> float | None:
        """Return the largest sample of a gauge."""
        values = self._samples.get(name)
        return None if values is None else max(values)

    def quantile(self, name: str, share: float) -> float | None:
        """Return a histogram's quantile since the engine's start, interpolated as PromQL does.

        `None` where nothing was observed. In the open last bucket the answer is that bucket's lower
        bound: the true value is at least that.
        """
        buckets = sorted(self._buckets.get(name, {}).items())
        if not buckets or buckets[-1][1] == 0:
            return None
        wanted = share * buckets[-1][1]
        lower, before = 0.0, 0.0
        for bound, count in buckets:
            if count >= wanted and count > before:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (wanted - before) / (count - before)
            lower, before = bound, count
        return lower
