"""A journal in memory is gone after the restart that it should explain."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "journal"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether the journal is kept on disk."""
    required = "kept on disk"
    if facts.journal_persistent:
        return passed(ID, observed="kept on disk", required=required)
    return warned(
        ID,
        observed="unknown" if facts.journal_persistent is None else "in memory only",
        required=required,
        remedy="Run `mkdir -p /var/log/journal && systemctl restart systemd-journald`.",
    )
