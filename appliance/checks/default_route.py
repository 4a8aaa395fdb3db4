"""An air-gapped node has no way out; a default route says that somebody gave it one."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "default-route"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for a route to everywhere, in either family."""
    if not facts.default_routes:
        return passed(ID, observed="none", required="none")
    return warned(
        ID,
        observed="; ".join(facts.default_routes),
        required="none",
        remedy="Remove the gateway from the interface's configuration, and leave routes to the site's own networks. "
        "The engine's unit has no network in any case.",
    )
