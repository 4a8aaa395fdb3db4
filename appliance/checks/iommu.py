"""An IOMMU that translates every address of a GPU slows its copies, and stops peer access on some machines."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "iommu"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask how the IOMMU treats the GPUs."""
    required = "off, or passing the GPUs through (iommu=pt)"
    if not demand.gpus(release) or facts.pci_gpu_count == 0:
        return passed(ID, observed="not asked", required="nothing: no GPU is needed or none is on the bus")
    observed = "unknown" if facts.gpu_iommu is None else ", ".join(sorted(facts.gpu_iommu))
    if facts.gpu_iommu is not None and "translated" not in facts.gpu_iommu:
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy="Add `iommu=pt` to GRUB_CMDLINE_LINUX in /etc/default/grub, run `update-grub` and restart.",
    )
