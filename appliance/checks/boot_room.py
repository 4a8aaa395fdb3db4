"""The driver's modules go into a new initial RAM disk; where /boot is full, the node may not start again."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.checks.figures import gigabytes
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "boot-room"
PATH: Final = "/boot"
MINIMUM_BYTES: Final = 300 * 10**6
"""Twice an initial RAM disk with NVIDIA's modules and firmware: the new one is written beside the old one."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare what is free under /boot where the release brings a driver."""
    place = facts.filesystem(PATH)
    observed = f"{gigabytes(place.free_bytes)} free" if place else "unknown"
    if not demand.brings_driver(release):
        return passed(ID, observed=observed, required="nothing: no driver is brought")
    required = f"≥ {gigabytes(MINIMUM_BYTES)} under {PATH}"
    if place is None:
        return warned(ID, observed=observed, required=required, remedy=f"Read `df {PATH}`.")
    if place.free_bytes >= MINIMUM_BYTES:
        return passed(ID, observed=observed, required=required)
    return failed(
        ID, observed=observed, required=required, remedy="Remove kernels that are no longer started: `apt autoremove`."
    )
