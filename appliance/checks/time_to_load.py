"""The engine reads all weights at every start; from a slow disk a restart takes the better part of an hour."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import passed, warned
from appliance.checks.figures import duration, gigabytes, pace
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "time-to-load"
PATH: Final = "/var/lib/leeward"
MAXIMUM_S: Final = 600.0
"""vLLM's own patience with its engine (`VLLM_ENGINE_READY_TIMEOUT_S`)."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Divide the size of the weights by the measured pace of reading."""
    if release is None:
        return passed(ID, observed="not asked", required="nothing: no release is named")
    weights = demand.weights_bytes(release)
    required = f"≤ {duration(MAXIMUM_S)} to read {gigabytes(weights)} of weights"
    timing = facts.timing(PATH)
    if timing is None or not timing.read_bytes_per_s:
        return warned(
            ID, observed="not measured", required=required, remedy=f"Make {PATH} readable and run preflight again."
        )
    estimate_s = weights / timing.read_bytes_per_s
    observed = f"about {duration(estimate_s)} at {pace(timing.read_bytes_per_s)}, measured on the {timing.source}"
    if estimate_s <= MAXIMUM_S:
        return passed(ID, observed=observed, required=required)
    return warned(
        ID, observed=observed, required=required, remedy=f"Put {PATH} on a faster disk, or plan for the wait at starts."
    )
