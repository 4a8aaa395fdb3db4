"""Two managers of one firewall undo each other's rules, and the last one to start wins."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "other-firewalls"
_UNITS: Final = ("firewalld.service", "ufw.service", "shorewall.service", "netfilter-persistent.service")


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for the services of the known ones; nftables' own service is what Leeward uses."""
    required = "none but nftables"
    if facts.services is None:
        return warned(ID, observed="unknown", required=required, remedy="Run `nft list ruleset` and ask who made it.")
    running = [unit for unit in _UNITS if unit in facts.services]
    if not running:
        return passed(ID, observed="none", required=required)
    return warned(
        ID,
        observed=", ".join(running),
        required=required,
        remedy="Move its rules into the site's own file for nftables and run `systemctl disable --now` with its name.",
    )
