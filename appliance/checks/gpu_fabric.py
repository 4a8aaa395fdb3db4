"""A GPU that has not joined the fabric of its NVSwitch board cannot start a computation with the others."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.domain.node import Gpu, NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-fabric"
_DONE: Final = "completed"
_NO_FABRIC: Final = "not-supported"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask every GPU for the fabric's state; one without a fabric needs none, unless there are switches."""
    required = "joined and healthy, where there is a fabric"
    has_switches = bool(facts.driver_packages.nvswitches)

    def wrong(gpu: Gpu) -> bool | None:
        if gpu.fabric_state is None:
            return None if has_switches else False
        if gpu.fabric_state == _NO_FABRIC:
            return has_switches
        return gpu.fabric_state != _DONE or gpu.fabric_health == "unhealthy"

    return gpus.unasked(ID, facts, release, required=required) or gpus.judge(
        ID,
        facts,
        wrong=wrong,
        required=required,
        all_right="joined" if has_switches else "no fabric",
        wrong_word="not joined, or unhealthy",
        remedy="Run `systemctl restart nvidia-fabricmanager`, read `nvidia-smi -q | grep -A4 Fabric`, then restart the "
        "node.",
    )
