"""A GPU under a lowered power limit is a slower GPU, and the others wait for it."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-power-limit"
_SHARE: Final = 0.95


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare the enforced limit with the board's default."""
    required = "the board's own limit"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    pairs = [(gpu, gpu.power_limit_w, gpu.power_limit_default_w) for gpu in facts.gpus]
    unknown = [gpu for gpu, limit, default in pairs if limit is None or default is None]
    low = [(gpu, limit, default) for gpu, limit, default in pairs if limit and default and limit < default * _SHARE]
    if not low and not unknown:
        limits = sorted({limit for _, limit, _ in pairs if limit is not None})
        return passed(ID, observed=", ".join(f"{limit:.0f} W" for limit in limits), required=required)
    told = ", ".join(f"{limit:.0f} of {default:.0f} W on {gpus.named([gpu])}" for gpu, limit, default in low)
    return warned(
        ID,
        observed=told or f"unknown: {gpus.named(unknown)}",
        required=required,
        remedy="Run `nvidia-smi -pl` with the default, or keep the limit if the site's power supply asks for it.",
    )
