"""Without ECC a flipped bit changes answers and nobody notices."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-ecc"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask every GPU whether ECC is on."""
    required = "on"
    return gpus.unasked(ID, facts, release, required=required) or gpus.judge(
        ID,
        facts,
        wrong=lambda gpu: None if gpu.ecc_enabled is None else not gpu.ecc_enabled,
        required=required,
        all_right="on",
        wrong_word="off",
        remedy="Run `nvidia-smi --ecc-config=1` and restart the node.",
    )
