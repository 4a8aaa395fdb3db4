"""An error that ECC could not correct has changed a number that somebody computed with."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-ecc-errors"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask every GPU for uncorrected errors since the driver was loaded."""
    required = "no uncorrected error since the driver was loaded"
    return gpus.unasked(ID, facts, release, required=required) or gpus.judge(
        ID,
        facts,
        wrong=lambda gpu: None if gpu.ecc_uncorrected is None else gpu.ecc_uncorrected > 0,
        required=required,
        all_right="none",
        wrong_word="uncorrected errors",
        remedy="Restart the node, so that faulty rows are remapped, and watch `nvidia-smi -q -d ECC`; errors that "
        "come back are a case for the hardware's vendor.",
    )
