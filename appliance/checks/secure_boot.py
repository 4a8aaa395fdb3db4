"""With Secure Boot the kernel refuses modules that no enrolled key has signed, as DKMS builds them."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "secure-boot"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask whether the GPU driver's module loads under this firmware's rules."""
    observed = {True: "on", False: "off", None: "unknown"}[facts.secure_boot]
    if not demand.gpus(release):
        return passed(ID, observed=observed, required=demand.nothing(release))
    if facts.driver is not None:
        return passed(ID, observed=f"{observed}; the driver's module is loaded", required="the driver's module loads")
    required = "off, or the module's signing key enrolled"
    remedy = (
        "Enrol the node's module signing key at the console (`mokutil --import /var/lib/dkms/mok.pub`, restart, "
        "confirm in the MOK manager), or turn Secure Boot off in the firmware."
    )
    if facts.secure_boot is None:
        return warned(ID, observed=observed, required=required, remedy="Read `mokutil --sb-state`. " + remedy)
    if not facts.secure_boot:
        return passed(ID, observed=observed, required=required)
    if demand.brings_driver(release):
        return warned(ID, observed="on, and no module is loaded yet", required=required, remedy=remedy)
    return failed(ID, observed="on, and no module is loaded", required=required, remedy=remedy)
