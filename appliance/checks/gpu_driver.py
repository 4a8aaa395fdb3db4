"""CUDA of the engine's build needs a driver that is not older than its own release."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.checks.figures import version
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-driver"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare the loaded driver with the release's minimum."""
    minimum = demand.minimum_driver(release)
    required = f"≥ {minimum}" if minimum else "a driver that is loaded"
    if not demand.gpus(release):
        observed = facts.driver.version if facts.driver else "not needed"
        return passed(ID, observed=observed, required=demand.nothing(release))
    if facts.driver is None:
        return _missing(facts, release, required=required)
    if minimum and version(facts.driver.version) < version(minimum):
        return failed(
            ID,
            observed=facts.driver.version,
            required=required,
            remedy="Purge the driver that is there (`apt purge 'nvidia-*'`), restart, and let provisioning install "
            "the one on the medium.",
        )
    return passed(ID, observed=facts.driver.version, required=required)


def _missing(facts: NodeFacts, release: Release | None, *, required: str) -> Finding:
    observed = facts.driver_error or "no driver"
    if demand.brings_driver(release):
        return warned(
            ID,
            observed=observed,
            required=required,
            remedy="Nothing to do if the node is new: provisioning installs the driver from the medium.",
        )
    return failed(
        ID,
        observed=observed,
        required=required,
        remedy="Install the driver from the site's own package archive: this release does not carry one.",
    )
