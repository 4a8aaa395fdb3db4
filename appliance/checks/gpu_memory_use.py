"""Another program's memory on a GPU is missing to the engine, which reserves nearly all of it."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-memory-use"
_LIMIT_BYTES: Final = 2 * 1024**3
"""An idle H100 shows 0.5 to 0.7 GiB used: the driver's own."""
_ENGINE: Final = "leeward-engine.service"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Look for GPUs in use while the engine's unit has no process."""
    required = "≤ 2 GiB used on each while the engine is stopped"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    if _ENGINE in facts.running_units:
        return passed(ID, observed="in use by the engine", required=required)
    busy = [gpu for gpu in facts.gpus if gpu.memory_used_bytes > _LIMIT_BYTES]
    if not busy:
        return passed(ID, observed="idle", required=required)
    return warned(
        ID,
        observed="in use: " + gpus.named(busy),
        required=required,
        remedy="Find the programs with `nvidia-smi` and stop them before the engine starts.",
    )
