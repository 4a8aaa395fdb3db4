"""A GPU that the hardware slows down, for heat or for want of power, sets the pace of all four."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-clocks"
_BAD: Final = frozenset({"hardware-slowdown", "hardware-thermal-slowdown", "thermal-slowdown", "power-brake"})


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Look for slowdowns among what holds the clocks back; idling and a power cap under load are normal."""
    required = "no slowdown by heat or power supply"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    unknown = [gpu for gpu in facts.gpus if gpu.clocks_event_reasons is None]
    slowed = [
        f"{', '.join(sorted(bad))} on {gpus.named([gpu])}"
        for gpu in facts.gpus
        if (bad := _BAD & set(gpu.clocks_event_reasons or ()))
    ]
    if not slowed and not unknown:
        return passed(ID, observed="none", required=required)
    return warned(
        ID,
        observed="; ".join(slowed) or f"unknown: {gpus.named(unknown)}",
        required=required,
        remedy="Read `nvidia-smi -q -d PERFORMANCE`; look at fans, air flow and both power supplies.",
    )
