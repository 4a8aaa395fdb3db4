"""Memory that is plugged to one processor only makes every copy to the GPUs of the other one slow."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "numa"
_UNEVEN: Final = 2
"""The largest node's memory over the smallest's, from which on the fitting is called uneven."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for NUMA nodes without memory or with much less than another."""
    required = "memory at every processor, evenly"
    if not facts.numa_nodes:
        return warned(ID, observed="unknown", required=required, remedy="Read `numactl --hardware` or `lscpu`.")
    observed = ", ".join(f"node {n.index}: {n.memory_bytes / 1e9:,.0f} GB, {n.cpus} CPUs" for n in facts.numa_nodes)
    sizes = [node.memory_bytes for node in facts.numa_nodes if node.cpus]
    if sizes and min(sizes) * _UNEVEN >= max(sizes):
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy="Fit the memory modules as the machine's manual shows for all processors, and turn off sub-NUMA "
        "clustering in the firmware if it is on.",
    )
