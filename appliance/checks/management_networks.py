"""An administrator who works from outside the management networks is locked out by the firewall's first start."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "management-networks"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Compare who is logged in over SSH with whom the firewall will let in."""
    networks = ", ".join(facts.management_networks)
    if not networks:
        return passed(ID, observed="SSH is let in from everywhere", required="whoever works here is let in again")
    required = f"SSH sessions from {networks} only"
    if facts.ssh_clients_outside is None:
        return warned(
            ID,
            observed="SSH sessions could not be read",
            required=required,
            remedy="Compare `ss -tn state established sport = :22` with [firewall] management_networks in "
            "/etc/leeward/leeward.toml.",
        )
    if not facts.ssh_clients_outside:
        return passed(ID, observed="every SSH session is from there", required=required)
    return failed(
        ID,
        observed=f"an SSH session from {', '.join(facts.ssh_clients_outside)}",
        required=required,
        remedy="Add that address to [firewall] management_networks in /etc/leeward/leeward.toml and run "
        "`systemctl restart leewardd`, or work from the node's console or from such a network.",
    )
