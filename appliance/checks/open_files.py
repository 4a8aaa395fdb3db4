"""The gateway holds one file open for each connection, and the engine maps every part of the weights."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "open-files"
MINIMUM: Final = 65_536


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Compare the kernel's bound for any one process (fs.nr_open) with what the units ask for."""
    required = f"≥ {MINIMUM:,}"
    if facts.open_files_maximum is not None and facts.open_files_maximum >= MINIMUM:
        return passed(ID, observed=f"{facts.open_files_maximum:,}", required=required)
    return warned(
        ID,
        observed="unknown" if facts.open_files_maximum is None else f"{facts.open_files_maximum:,}",
        required=required,
        remedy="Write `fs.nr_open = 1048576` to /etc/sysctl.d/60-leeward.conf and run `sysctl --system`.",
    )
