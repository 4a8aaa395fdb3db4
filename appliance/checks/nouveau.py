"""The nouveau driver holds GPUs that NVIDIA's driver needs, and must be out before that one loads."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "nouveau"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Look for the module among the loaded ones."""
    required = "not loaded"
    if "nouveau" not in facts.kernel_modules:
        return passed(ID, observed="not loaded", required=required)
    if not demand.gpus(release):
        return passed(ID, observed="loaded", required=demand.nothing(release))
    return failed(
        ID,
        observed="loaded",
        required=required,
        remedy="Write `blacklist nouveau` to /etc/modprobe.d/nouveau.conf, run `update-initramfs -u` and restart.",
    )
