"""Simulated hardware is for rehearsals; it must be seen at a glance that nothing real was measured."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "simulation"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Say what is simulated."""
    if not facts.simulated:
        return passed(ID, observed="real hardware", required="real hardware")
    return warned(
        ID,
        observed="SIMULATED: " + ", ".join(facts.simulated),
        required="real hardware",
        remedy="Good for a rehearsal; take the simulation out of /etc/leeward/leeward.toml before real use.",
    )
