"""On boards with NVSwitch the GPUs reach each other only while a fabric manager of the driver's own version runs."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "fabric-manager"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Where there are switches, ask for a running fabric manager of the driver's version, to the digit."""
    switches = facts.driver_packages.nvswitches
    if not demand.gpus(release):
        return passed(ID, observed="not asked", required=demand.nothing(release))
    if switches is None:
        return warned(
            ID,
            observed="unknown: the PCI bus cannot be read",
            required="running, where there are NVSwitches",
            remedy="Read `lspci -d 10de::0680`.",
        )
    if switches == 0:
        return passed(ID, observed="no NVSwitch", required="nothing: there is no NVSwitch")
    if facts.driver is None and demand.brings_fabric_manager(release):
        return passed(ID, observed=f"{switches} NVSwitches", required="the driver's version: the release brings both")
    return _compared(facts, facts.driver.version if facts.driver else None)


def _compared(facts: NodeFacts, driver: str | None) -> Finding:
    seen = facts.driver_packages
    required = f"running, version {driver or 'of the driver'}"
    running = "running" if seen.fabric_manager_running else "not running"
    observed = f"{seen.nvswitches} NVSwitches; version {seen.fabric_manager_version or 'unknown'}, {running}"
    if seen.fabric_manager_running and driver and seen.fabric_manager_version == driver:
        return passed(ID, observed=observed, required=required)
    if seen.fabric_manager_running and seen.fabric_manager_version is None:
        return warned(
            ID, observed=observed, required=required, remedy="Compare `nv-fabricmanager -v` with the driver's version."
        )
    return failed(
        ID,
        observed=observed,
        required=required,
        remedy="Install nvidia-fabricmanager of exactly the driver's version, run `systemctl enable --now "
        "nvidia-fabricmanager`, and read /var/log/fabricmanager.log if it ends.",
    )
