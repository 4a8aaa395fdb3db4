"""The target's weights are FP8: the engine's FP8 kernels for CUDA want compute capability 9.0."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand, gpus
from appliance.checks.check import passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Device, Release

ID: Final = "gpu-compute-capability"
MINIMUM: Final = (9, 0)
"""Hopper; FP8 tensor cores (CUDA C++ Programming Guide, compute capabilities)."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare every GPU's compute capability with 9.0."""
    required = "≥ 9.0 for FP8"
    if demand.computes_on(release) is Device.CPU:
        return passed(ID, observed="not needed", required=demand.nothing(release))
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    lowest = min(gpu.compute_capability for gpu in facts.gpus)
    return gpus.judge(
        ID,
        facts,
        wrong=lambda gpu: gpu.compute_capability < MINIMUM,
        required=required,
        all_right=".".join(map(str, lowest)),
        wrong_word="too low",
        remedy="Use H100, H200 or newer GPUs: older ones cannot compute in FP8.",
    )
