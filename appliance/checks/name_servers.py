"""A node that asks a public name server was once on the Internet, or waits seconds for each name that it looks up."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts, scope
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "name-servers"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for public addresses in /etc/resolv.conf."""
    required = "none, or the site's own"
    if facts.nameservers is None:
        return warned(ID, observed="unknown", required=required, remedy="Read /etc/resolv.conf.")
    observed = ", ".join(facts.nameservers) or "none"
    if not [server for server in facts.nameservers if scope(server) != "local"]:
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy="Take the public servers out of /etc/resolv.conf and out of the configuration that writes it.",
    )
