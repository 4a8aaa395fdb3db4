"""The driver itself says when a GPU must be reset or drained; its word goes before any list of XIDs."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-recovery"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask every GPU for the driver's recovery action (NVML field 230); older drivers have none, which passes."""
    required = "none"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    if facts.driver_error:
        return warned(
            ID,
            observed=facts.driver_error,
            required=required,
            remedy="Read `dmesg | grep -e NVRM -e Xid`, then power the node off and on.",
        )
    asked = sorted({gpu.recovery_action for gpu in facts.gpus if gpu.recovery_action not in {None, "none"}} - {None})
    if not asked:
        return passed(ID, observed="none", required=required)
    guilty = [gpu for gpu in facts.gpus if gpu.recovery_action in asked]
    return failed(
        ID,
        observed=", ".join(str(action) for action in asked) + ": " + gpus.named(guilty),
        required=required,
        remedy="Do what the driver asks: `gpu-reset` is `nvidia-smi --gpu-reset` with nothing running, the others "
        "are a restart of the node.",
    )
