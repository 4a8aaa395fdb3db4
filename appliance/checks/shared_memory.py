"""The engine's processes, one for each GPU, talk through /dev/shm; containers often have 64 MB of it."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.checks.figures import gigabytes
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "shared-memory"
PATH: Final = "/dev/shm"  # noqa: S108  observed, not written to
MINIMUM_BYTES: Final = 10**9
"""vLLM's ring buffer takes 0.25 GB, NCCL's segments some more for each pair of GPUs."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare its size with what several processes need; one process needs none."""
    size = release.engine.tensor_parallel_size if release and release.engine else 1
    place = facts.filesystem(PATH)
    observed = gigabytes(place.total_bytes) if place else "unknown"
    if size == 1:
        return passed(ID, observed=observed, required="nothing: the engine is one process")
    required = f"≥ {gigabytes(MINIMUM_BYTES)}"
    if place is not None and place.total_bytes >= MINIMUM_BYTES:
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy="Run `mount -o remount,size=16G /dev/shm`, and write the size to /etc/fstab.",
    )
