"""A board in an older slot, or behind a bad riser, loads weights at half the pace."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-pcie-generation"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare what GPU and slot reach together with what the GPU could; the present speed rests while idle."""
    required = "the GPU's own generation of PCIe"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    pairs = [(gpu, gpu.pcie_generation_maximum, gpu.pcie_generation_gpu) for gpu in facts.gpus]
    unknown = [gpu for gpu, slot, own in pairs if slot is None or own is None]
    slow = [(gpu, slot, own) for gpu, slot, own in pairs if slot is not None and own is not None and slot < own]
    if not slow and not unknown:
        generations = sorted({slot for _, slot, _ in pairs if slot is not None})
        return passed(ID, observed=", ".join(f"PCIe {generation}" for generation in generations), required=required)
    told = ", ".join(f"PCIe {slot} of {own} on {gpus.named([gpu])}" for gpu, slot, own in slow)
    return warned(
        ID,
        observed=told or f"unknown: {gpus.named(unknown)}",
        required=required,
        remedy="Compare the slots with the machine's manual, set the link speed to automatic in the firmware, and "
        "reseat the risers.",
    )
