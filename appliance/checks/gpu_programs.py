"""The engine reserves nearly all GPU memory; a program that is there already takes it away, now or later."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-programs"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Look for programs on the GPUs that are not Leeward's engine."""
    required = "no other program on the GPUs"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    if facts.gpu_users is None:
        return warned(ID, observed="unknown", required=required, remedy="Read the table at the end of `nvidia-smi`.")
    if not facts.gpu_users:
        return passed(ID, observed="none", required=required)
    return failed(
        ID,
        observed=", ".join(facts.gpu_users),
        required=required,
        remedy="Stop these programs, and take them out of what starts with the node.",
    )
