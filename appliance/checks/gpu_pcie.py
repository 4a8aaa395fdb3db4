"""A GPU on half of its PCIe lanes loads weights at half the pace, and often means a badly seated board."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-pcie"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare each GPU's lanes with its maximum; what NVML does not tell is passed over."""
    required = "every lane in use"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    narrow = [
        gpu
        for gpu in facts.gpus
        if gpu.pcie_width is not None and gpu.pcie_width_maximum is not None and gpu.pcie_width < gpu.pcie_width_maximum
    ]
    if not narrow:
        widths = sorted({gpu.pcie_width for gpu in facts.gpus if gpu.pcie_width is not None})
        return passed(ID, observed=", ".join(f"x{width}" for width in widths) or "unknown", required=required)
    return warned(
        ID,
        observed=", ".join(f"x{gpu.pcie_width} of x{gpu.pcie_width_maximum} on {gpus.named([gpu])}" for gpu in narrow),
        required=required,
        remedy="Power the node off, reseat the board or its riser, and compare with `nvidia-smi -q -d PCIE`.",
    )
