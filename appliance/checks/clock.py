"""A clock before the release's making is wrong, and signatures' dates would be judged by it."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "clock"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare the clock with the time at which the release was made."""
    observed = f"{facts.observed_at:%Y-%m-%d %H:%M} UTC"
    if release is None:
        return passed(ID, observed=observed, required="after the release was made")
    required = f"after {release.created_at:%Y-%m-%d %H:%M} UTC, when the release was made"
    if facts.observed_at >= release.created_at:
        return passed(ID, observed=observed, required=required)
    return failed(
        ID,
        observed=observed,
        required=required,
        remedy="Set the clock by a trusted watch (`timedatectl set-time`), and let the firmware keep it: "
        "`hwclock --systohc`.",
    )
