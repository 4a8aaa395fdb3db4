"""What an earlier installation left can be taken for part of the new one."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "remains"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for Leeward's files on a node without any slot."""
    required = "none, or a slot that they belong to"
    if facts.remains == ():
        return passed(ID, observed="none", required=required)
    return warned(
        ID,
        observed="unknown" if facts.remains is None else ", ".join(facts.remains),
        required=required,
        remedy="Export the evidence of the earlier installation if there is a ledger, then move these paths away.",
    )
