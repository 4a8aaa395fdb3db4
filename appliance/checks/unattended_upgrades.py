"""An upgrade at night can bring a kernel for which the GPU driver is not built."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "unattended-upgrades"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether apt's daily job upgrades packages by itself."""
    required = "off"
    if facts.unattended_upgrades is False:
        return passed(ID, observed="off", required=required)
    return warned(
        ID,
        observed="unknown" if facts.unattended_upgrades is None else "on",
        required=required,
        remedy="Run `systemctl disable --now apt-daily-upgrade.timer`; updates come with releases.",
    )
