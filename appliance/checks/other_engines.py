"""A second engine competes for GPUs, memory and port, and tenants may reach it around the ledger."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "other-engines"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for vLLM processes outside Leeward's unit."""
    required = "none but Leeward's"
    if facts.other_engines == ():
        return passed(ID, observed="none", required=required)
    return warned(
        ID,
        observed="unknown" if facts.other_engines is None else ", ".join(facts.other_engines),
        required=required,
        remedy="Stop the process (`ps -fp` shows who started it), and take it out of what starts with the node.",
    )
