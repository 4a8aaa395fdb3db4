"""A page that waits to be retired is faulty memory in use; GPUs since Ampere remap rows instead and retire none."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import failed, passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-retired-pages"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask every GPU that retires pages whether one waits."""
    required = "none waits"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    keeping = [gpu for gpu in facts.gpus if gpu.retired_pages_pending is not None]
    if not keeping:
        return passed(ID, observed="these GPUs retire no pages", required=required)
    waiting = [gpu for gpu in keeping if gpu.retired_pages_pending]
    if not waiting:
        return passed(ID, observed=f"{sum(gpu.retired_pages or 0 for gpu in keeping)} retired", required=required)
    return failed(
        ID,
        observed="waiting: " + gpus.named(waiting),
        required=required,
        remedy="Restart the node, and compare `nvidia-smi -q -d PAGE_RETIREMENT` before and after.",
    )
