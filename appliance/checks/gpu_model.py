"""Tensor parallelism runs at the pace of the slowest GPU, and is tested on equal ones only."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-model"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask whether all GPUs are of one model and size."""
    required = "all of one model"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    models = sorted({gpu.name for gpu in facts.gpus})
    if len(models) == 1 and len({gpu.memory_total_bytes for gpu in facts.gpus}) == 1:
        return passed(ID, observed=models[0], required=required)
    return warned(
        ID,
        observed=", ".join(models) + (", of different sizes" if len(models) == 1 else ""),
        required=required,
        remedy="Use equal GPUs; a mixed node serves at the pace and with the memory of the smallest.",
    )
