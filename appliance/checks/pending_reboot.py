"""A node that waits for a restart runs other code than it has installed, and meets it at the worst time."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "pending-reboot"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether an upgrade left the wish for a restart."""
    required = "none"
    if facts.reboot_required is False:
        return passed(ID, observed="none", required=required)
    return warned(
        ID,
        observed="unknown" if facts.reboot_required is None else "a restart is wanted",
        required=required,
        remedy="Read /run/reboot-required.pkgs for the cause, restart the node, and run preflight again.",
    )
