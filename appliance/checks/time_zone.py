"""In a zone with summer time the node's other logs have one hour twice a year, beside an audit log in UTC."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "time-zone"
_UTC: Final = frozenset({"UTC", "Etc/UTC", "Universal", "Etc/Universal", "Zulu", "Etc/Zulu"})


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask for UTC."""
    required = "UTC"
    if facts.time_zone in _UTC:
        return passed(ID, observed=str(facts.time_zone), required=required)
    return warned(
        ID,
        observed=facts.time_zone or "unknown",
        required=required,
        remedy="Run `timedatectl set-timezone Etc/UTC`, or keep the zone and remember it when comparing logs.",
    )
