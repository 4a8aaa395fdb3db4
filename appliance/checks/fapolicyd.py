"""The service fapolicyd refuses to run programs that no package brought, which is what the Python environments are."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "fapolicyd"
_UNIT: Final = "fapolicyd.service"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for the running service."""
    required = "not running, or with /opt/leeward among its trusted paths"
    if facts.services is None:
        return warned(ID, observed="unknown", required=required, remedy="Run `systemctl is-active fapolicyd`.")
    if _UNIT not in facts.services:
        return passed(ID, observed="not running", required=required)
    return failed(
        ID,
        observed="running",
        required=required,
        remedy="Run `fapolicyd-cli --file add /opt/leeward/` and `fapolicyd-cli --update`, then waive this finding "
        "with that as the reason; or stop the service.",
    )
