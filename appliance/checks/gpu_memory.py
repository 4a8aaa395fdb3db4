"""Weights and KV cache must fit; a GPU with less memory ends in an out-of-memory error at start."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand, gpus
from appliance.checks.check import failed, passed
from appliance.checks.figures import gigabytes
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-memory"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare the smallest GPU's memory with the release's figure."""
    needed = demand.gpu_memory_bytes(release)
    required = f"≥ {gigabytes(needed)} each"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    smallest = min(facts.gpus, key=lambda gpu: gpu.memory_total_bytes)
    observed = f"{gigabytes(smallest.memory_total_bytes)} ({smallest.name})"
    if smallest.memory_total_bytes >= needed:
        return passed(ID, observed=observed, required=required)
    return failed(
        ID,
        observed=observed,
        required=required,
        remedy="Use GPUs with more memory, or ask the publisher for a release made for these.",
    )
