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
    remedy = f"{enrolment(facts)} Or turn Secure Boot off in the firmware."
    if facts.secure_boot is None:
        return warned(ID, observed=observed, required=required, remedy=f"Read `mokutil --sb-state`. {remedy}")
    if not facts.secure_boot:
        return passed(ID, observed=observed, required=required)
    if facts.module_key == "enrolled":
        return passed(ID, observed="on; the firmware knows the key that signs modules compiled here", required=required)
    observed = f"on, and no module is loaded{'' if facts.module_key is None else f'; {_KEYS[facts.module_key]}'}"
    finding = warned if demand.brings_driver(release) else failed
    return finding(ID, observed=observed, required=required, remedy=remedy)


def enrolment(facts: NodeFacts) -> str:
    """Say how the key becomes known to the firmware; what is done already is not asked for again."""
    if facts.module_key == "waiting":
        return (
            "Read the one-time password (`sudo cat /var/lib/leeward/state/mok-password`, or the one that was given to "
            "mokutil), restart the node with somebody at its own console, choose Enroll MOK there and give it."
        )
    return (
        "Enrol the node's module signing key at the console (`mokutil --import /var/lib/dkms/mok.pub`, restart, "
        "confirm in the MOK manager)."
    )


_KEYS: Final = {
    "none": "no key to sign modules with has been made yet",
    "unknown": "the firmware does not know the key that signs modules compiled here",
    "waiting": "the key waits for somebody at the node's own console",
}
