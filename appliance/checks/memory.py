"""Loading the weights and serving both need main memory; too little ends in the kernel's OOM killer."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed
from appliance.checks.figures import gigabytes
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "memory"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare installed memory with the release's figure; what is free now changes too fast to judge by."""
    needed = release.requirements.memory_bytes if release and release.requirements else 0
    observed = f"{gigabytes(facts.memory_total_bytes)}, {gigabytes(facts.memory_available_bytes)} of it available"
    required = f"≥ {gigabytes(needed)}" if release else "nothing: no release is named"
    if facts.memory_total_bytes >= needed:
        return passed(ID, observed=observed, required=required)
    return failed(
        ID,
        observed=observed,
        required=required,
        remedy="Fit more memory, or use a release for a smaller node.",
    )
