"""Library and kernel module of different versions work until the next restart, or until then not at all."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "driver-versions"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare the driver's library, as NVML tells, with the loaded module."""
    if not demand.gpus(release):
        return passed(ID, observed="not asked", required=demand.nothing(release))
    required = "library and loaded module of one version"
    module, library = facts.driver_packages.module_version, facts.driver.version if facts.driver else None
    remedy = "Restart the node: it loads the module that belongs to the installed library."
    if facts.driver is None and module is None:
        return passed(ID, observed="neither is there", required=required)
    observed = f"library {library or 'not answering'}, module {module or 'unknown'}"
    if module == library:
        return passed(ID, observed=observed, required=required)
    if module is None:
        return warned(ID, observed=observed, required=required, remedy="Read /sys/module/nvidia/version.")
    return failed(ID, observed=observed, required=required, remedy=remedy)
