"""A gateway without a network serves nobody."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "network-link"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for an interface with a carrier."""
    required = "one interface with a link"
    up = [interface for interface in facts.interfaces or () if interface.up]
    if up:
        told = (f"{i.name} ({i.speed_mbps:,} Mbit/s)" if i.speed_mbps else i.name for i in up)
        return passed(ID, observed=", ".join(told), required=required)
    return warned(
        ID,
        observed="unknown" if facts.interfaces is None else "none",
        required=required,
        remedy="Look at cable and switch; `ip -br link` shows each interface and whether it has a carrier.",
    )
