"""A GPU that is hot before it works has no room left for working."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-temperature"
_MARGIN_C: Final = 10


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare the temperature with the driver's threshold for slowing down, less ten degrees."""
    required = f"{_MARGIN_C} degrees below the threshold for slowing down"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    unknown = [gpu for gpu in facts.gpus if gpu.temperature_c is None or gpu.slowdown_temperature_c is None]
    hot = [
        gpu
        for gpu in facts.gpus
        if gpu.temperature_c is not None
        and gpu.slowdown_temperature_c is not None
        and gpu.temperature_c > gpu.slowdown_temperature_c - _MARGIN_C
    ]
    if hot:
        return warned(
            ID,
            observed=", ".join(f"{gpu.temperature_c} °C on {gpus.named([gpu])}" for gpu in hot),
            required=required,
            remedy="Look at fans, filters and the room's temperature before the GPUs are put under load.",
        )
    if unknown:
        return warned(
            ID,
            observed=f"unknown: {gpus.named(unknown)}",
            required=required,
            remedy="Read `nvidia-smi -q -d TEMPERATURE`.",
        )
    return passed(ID, observed=f"at most {max(gpu.temperature_c or 0 for gpu in facts.gpus)} °C", required=required)
