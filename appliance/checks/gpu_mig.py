"""A GPU that is cut into MIG instances cannot take part in tensor parallelism."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-mig"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask every GPU whether MIG is on; a GPU that does not know MIG has it off."""
    required = "off"
    return gpus.unasked(ID, facts, release, required=required) or gpus.judge(
        ID,
        facts,
        wrong=lambda gpu: bool(gpu.mig_enabled),
        required=required,
        all_right="off",
        wrong_word="on",
        remedy="Stop what uses the GPU, then run `nvidia-smi -mig 0` and restart the node.",
    )
