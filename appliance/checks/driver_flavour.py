"""NVIDIA's open kernel modules are the tested ones for Hopper since branch 560; the closed ones end with branch 620."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "driver-flavour"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask which flavour of the module is loaded."""
    if not demand.gpus(release):
        return passed(ID, observed="not asked", required=demand.nothing(release))
    required = "open kernel modules"
    flavour = facts.driver_packages.module_flavour
    if flavour == "open" or facts.driver is None:
        return passed(ID, observed=flavour or "no module is loaded", required=required)
    return warned(
        ID,
        observed=flavour or "unknown",
        required=required,
        remedy="Read /proc/driver/nvidia/version; replace the closed modules by nvidia-open of the same version.",
    )
