"""Weights, draft head and the KV cache of one longest request must fit together, or the engine ends while it starts."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import failed, passed, warned
from appliance.domain.fit import kv_budget
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Device, Release

ID: Final = "gpu-fit"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Show the arithmetic of `appliance.domain.fit` for this node's GPUs."""
    engine = release.engine if release else None
    if release is None or engine is None or engine.device is Device.CPU:
        return passed(ID, observed="not asked", required="nothing: the release needs no GPU, or none is named")
    required = f"room for one request of {engine.max_model_len:,} tokens on {engine.tensor_parallel_size} GPUs"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    budget = kv_budget(release, engine, facts.gpus)
    if budget is None:
        return warned(
            ID,
            observed="unknown: the release does not say what one token takes",
            required=required,
            remedy="Watch the engine's first start; its line `GPU KV cache size` tells what is left.",
        )
    if budget.fits:
        return passed(ID, observed=f"{budget}; {budget.sequences:.1f} such requests at once", required=required)
    return failed(
        ID,
        observed=str(budget),
        required=required,
        remedy="Ask the publisher for a release with a smaller max_model_len or an FP8 KV cache, or use larger GPUs.",
    )
