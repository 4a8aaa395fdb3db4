"""Prompts and answers in memory could be written to a swap disk, where they outlive every request."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "swap"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for swap; whether it is encrypted cannot be seen from here."""
    required = "none"
    if facts.swap_bytes == 0:
        return passed(ID, observed="none", required=required)
    return warned(
        ID,
        observed="unknown" if facts.swap_bytes is None else f"{facts.swap_bytes / 1e9:,.1f} GB",
        required=required,
        remedy="Run `swapoff -a` and take the line out of /etc/fstab, or put swap on an encrypted disk.",
    )
