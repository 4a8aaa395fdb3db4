"""GPUs that cannot reach each other's memory send every all-reduce through main memory."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-p2p"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask for peer access between every two GPUs, over whatever link."""
    required = "peer access between every two GPUs"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    everyone = frozenset(gpu.index for gpu in facts.gpus)
    unknown = [gpu for gpu in facts.gpus if gpu.p2p_pcie is None]
    apart = [gpu for gpu in facts.gpus if gpu.p2p_pcie is not None and everyone - {gpu.index} - gpu.p2p_pcie]
    if not apart and not unknown:
        return passed(ID, observed="all reach all" if len(everyone) > 1 else "one GPU", required=required)
    return warned(
        ID,
        observed=f"no full access: {gpus.named(apart)}" if apart else f"unknown: {gpus.named(unknown)}",
        required=required,
        remedy="Read `nvidia-smi topo -p2p r`; see to the findings on ACS and the IOMMU, then restart the node.",
    )
