"""Engine, gateway and daemon are systemd units; their sandboxes are systemd's."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "systemd"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether systemd is the first process."""
    if facts.systemd_running:
        return passed(ID, observed="running", required="running")
    return failed(
        ID,
        observed="not running",
        required="running",
        remedy="Run Leeward on a machine or a container whose first process is systemd.",
    )
