"""Boards of different firmware differ in clocks and in known faults, and are replaced for it one by one."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-vbios"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask whether all boards of one model carry one VBIOS."""
    required = "one VBIOS on all boards of a model"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    unknown = [gpu for gpu in facts.gpus if gpu.vbios_version is None]
    if unknown:
        return warned(
            ID,
            observed=f"unknown: {gpus.named(unknown)}",
            required=required,
            remedy="Read `nvidia-smi -q | grep VBIOS`.",
        )
    versions = sorted({(gpu.name, str(gpu.vbios_version)) for gpu in facts.gpus})
    observed = ", ".join(version for _, version in versions)
    if len(versions) == len({name for name, _ in versions}):
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy="Ask the hardware's vendor for one firmware for all boards; until then compare faults with the version.",
    )
