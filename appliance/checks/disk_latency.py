"""Each request is recorded durably before it is forwarded: a slow disk is a slow first token."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "disk-latency"
PATH: Final = "/var/lib/leeward"
MAXIMUM_S: Final = 0.010
"""Ten milliseconds, the bar that etcd's operators set for the same kind of write."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Compare the slowest of a hundred durable writes of 4 KiB with ten milliseconds."""
    required = f"≤ {MAXIMUM_S * 1000:.0f} ms for one durable write"
    timing = facts.timing(PATH)
    if timing is None or timing.sync_p99_s is None:
        return warned(
            ID,
            observed="not measured",
            required=required,
            remedy=f"Let the management daemon write to {PATH} and run preflight again.",
        )
    observed = f"{timing.sync_p99_s * 1000:.1f} ms, the slowest of {timing.syncs}"
    if timing.sync_p99_s <= MAXIMUM_S:
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy=f"Put {PATH} on an NVMe disk or behind a controller with a protected write cache, and keep other "
        "programs off that disk.",
    )
