"""The driver's modules and the units' sandboxes need a kernel of our time."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.checks.figures import version
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "kernel"
MINIMUM: Final = (5, 15)
TESTED: Final = (6, 1)
"""Debian 12's own kernel."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Refuse what is too old, and warn of what lies between that and the tested kernel."""
    required = "≥ 6.1, and not older than 5.15"
    seen = version(facts.kernel)
    if seen >= TESTED:
        return passed(ID, observed=facts.kernel, required=required)
    remedy = "Start the node with the kernel of its operating system (package linux-image-amd64) and try again."
    if seen >= MINIMUM:
        return warned(ID, observed=facts.kernel, required=required, remedy=remedy)
    return failed(ID, observed=facts.kernel, required=required, remedy=remedy)
