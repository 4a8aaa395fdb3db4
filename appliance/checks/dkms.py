"""DKMS builds the driver's modules anew for each kernel; without it they are missing after the first kernel update."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "dkms"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Look for DKMS on the node and in the release."""
    if not demand.builds_driver(release, facts):
        return passed(ID, observed="not asked", required="nothing: no driver is built")
    required = "installed or in the release"
    if demand.brings_package(release, "dkms"):
        return passed(ID, observed="in the release", required=required)
    if facts.dkms_installed:
        return passed(ID, observed="installed", required=required)
    if facts.dkms_installed is None:
        return warned(ID, observed="not in the release", required=required, remedy="Run `dkms status`.")
    return failed(
        ID,
        observed="neither",
        required=required,
        remedy="Install dkms from the site's own package archive, or ask the publisher for a release that carries it.",
    )
