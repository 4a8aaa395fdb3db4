"""Bridges join two or four boards; a pair without a bridge talks over PCIe, at a tenth of the pace."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-nvlink-pairs"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask for NVLink between every two GPUs; boards without any NVLink are the check on NVLink's business."""
    required = "NVLink between every two GPUs"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    everyone = frozenset(gpu.index for gpu in facts.gpus)
    if len(everyone) == 1 or all(gpu.nvlinks_total is None for gpu in facts.gpus):
        return passed(ID, observed="not asked", required="nothing: one GPU, or boards without NVLink")
    unknown = [gpu for gpu in facts.gpus if gpu.p2p_nvlink is None]
    apart = [gpu for gpu in facts.gpus if gpu.p2p_nvlink is not None and everyone - {gpu.index} - gpu.p2p_nvlink]
    if not apart and not unknown:
        return passed(ID, observed="every pair", required=required)
    return warned(
        ID,
        observed=f"not to all: {gpus.named(apart)}" if apart else f"unknown: {gpus.named(unknown)}",
        required=required,
        remedy="Read `nvidia-smi topo -m`, where NV stands for NVLink; seat the bridges anew, or fit the one for four "
        "boards.",
    )
