"""The driver's modules are built on the node, against headers of exactly the kernel that runs."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "kernel-headers"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Look for headers of the running kernel on the node and in the signed release."""
    if not demand.builds_driver(release, facts):
        return passed(ID, observed="not asked", required="nothing: no driver is built")
    required = f"headers for {facts.kernel}, installed or in the release"
    if demand.brings_headers(release, facts.kernel):
        return passed(ID, observed="in the release", required=required)
    if facts.kernel_headers:
        return passed(ID, observed="installed", required=required)
    carried = demand.kernels_with_headers(release)
    observed = "in the release only for " + ", ".join(carried) if carried else "none in the release"
    if facts.kernel_headers is None:
        return warned(ID, observed=observed, required=required, remedy=f"Look into /lib/modules/{facts.kernel}/build.")
    return failed(
        ID,
        observed=observed,
        required=required,
        remedy="Start the node with a kernel for which the release has headers, or ask the publisher for a release "
        f"with linux-headers-{facts.kernel}.",
    )
