"""A mode that changes at the next reset changes the node behind the back of everything that was tested."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-pending-modes"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare ECC and MIG now with ECC and MIG after the next reset."""
    required = "ECC and MIG stay as they are"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    changing = [
        f"{name} turns {'on' if later else 'off'} on {gpus.named([gpu])}"
        for gpu in facts.gpus
        for name, now, later in (
            ("ECC", gpu.ecc_enabled, gpu.ecc_pending),
            ("MIG", gpu.mig_enabled, gpu.mig_pending),
        )
        if now is not None and later is not None and now != later
    ]
    if not changing:
        return passed(ID, observed="nothing is pending", required=required)
    return warned(
        ID,
        observed=", ".join(changing),
        required=required,
        remedy="Set what is wanted (`nvidia-smi --ecc-config=1`, `nvidia-smi -mig 0`), restart the node, and run "
        "preflight again.",
    )
