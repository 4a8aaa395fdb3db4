"""The target is split over `tensor_parallel_size` GPUs; with one less it does not load."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-count"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Count what the driver shows; without a driver, what the PCI bus shows."""
    needed = demand.gpus(release)
    if not needed:
        return passed(ID, observed=str(len(facts.gpus)), required=demand.nothing(release))
    required = f"≥ {needed}"
    if len(facts.gpus) >= needed:
        return passed(ID, observed=_names(facts), required=required)
    remedy = (
        "Look for missing ones with `lspci -d 10de:` and `dmesg | grep NVRM`; power the node off and on, "
        "reseat the board, then call the hardware's vendor."
    )
    if facts.driver is None and demand.brings_driver(release):
        if facts.pci_gpu_count is None:
            return warned(ID, observed="unknown: no driver is loaded", required=required, remedy=remedy)
        if facts.pci_gpu_count >= needed:
            return passed(ID, observed=f"{facts.pci_gpu_count} on the PCI bus", required=required)
        return failed(ID, observed=f"{facts.pci_gpu_count} on the PCI bus", required=required, remedy=remedy)
    lost = f" ({facts.driver_error})" if facts.driver_error else ""
    return failed(ID, observed=_names(facts) + lost, required=required, remedy=remedy)


def _names(facts: NodeFacts) -> str:
    names = sorted({gpu.name for gpu in facts.gpus})
    return f"{len(facts.gpus)} ({', '.join(names)})" if names else "0"
