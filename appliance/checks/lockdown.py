"""A locked-down kernel takes only modules with a signature that it knows, Secure Boot or not."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.checks.secure_boot import enrolment
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "lockdown"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask for lockdown, or for enforced signatures, where no driver is loaded yet."""
    locked = facts.lockdown not in {None, "none"} or bool(facts.module_signatures_enforced)
    observed = f"lockdown {facts.lockdown or 'not known to this kernel'}, signatures " + (
        "enforced" if facts.module_signatures_enforced else "not enforced"
    )
    if not demand.gpus(release) or facts.driver is not None:
        return passed(ID, observed=observed, required="nothing: no module has to be loaded")
    required = "none, or the modules' signing key enrolled"
    if not locked:
        return passed(ID, observed=observed, required=required)
    if facts.module_key == "enrolled":
        return passed(ID, observed=f"{observed}; the modules' signing key is enrolled", required=required)
    remedy = f"{enrolment(facts)} Or take `lockdown=` and `module.sig_enforce` off the kernel's command line."
    if demand.brings_driver(release):
        return warned(ID, observed=observed, required=required, remedy=remedy)
    return failed(ID, observed=observed, required=required, remedy=remedy)
