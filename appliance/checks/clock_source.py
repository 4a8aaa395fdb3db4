"""Usage records and audit entries carry the node's time; undisciplined, it drifts by seconds a day."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "clock-source"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether a time source disciplines the clock."""
    required = "disciplined by a time source"
    if facts.clock_synchronized:
        return passed(ID, observed="synchronised", required=required)
    return warned(
        ID,
        observed="unknown" if facts.clock_synchronized is None else "not synchronised",
        required=required,
        remedy="Point chrony at the site's own time server or GPS clock, or compare the clock with a trusted watch "
        "each month and write the difference down.",
    )
