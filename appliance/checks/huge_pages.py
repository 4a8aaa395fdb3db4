"""Memory set aside for huge pages is lost to the engine and to the page cache that the weights come through."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "huge-pages"
_SHARE: Final = 0.1


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Compare what is set aside with a tenth of all memory."""
    required = "at most a tenth of the memory set aside"
    if facts.huge_pages_bytes is None:
        return warned(ID, observed="unknown", required=required, remedy="Read `grep Huge /proc/meminfo`.")
    observed = f"{facts.huge_pages_bytes / 1e9:,.1f} GB set aside"
    if facts.huge_pages_bytes <= facts.memory_total_bytes * _SHARE:
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy="Take vm.nr_hugepages out of /etc/sysctl.d and `hugepages=` off the kernel's command line; restart.",
    )
