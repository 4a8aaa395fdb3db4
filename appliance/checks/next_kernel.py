"""After the next restart the newest installed kernel runs; without headers for it the driver is gone."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import passed, warned
from appliance.checks.figures import version
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "next-kernel"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask for headers of every installed kernel that is newer than the running one."""
    if not demand.builds_driver(release, facts):
        return passed(ID, observed="not asked", required="nothing: no driver is built")
    required = "headers in the release for every newer kernel"
    if facts.installed_kernels is None:
        return warned(ID, observed="unknown", required=required, remedy="Look into /boot for kernels.")
    newer = [name for name in facts.installed_kernels if _order(name) > _order(facts.kernel)]
    bare = [name for name in newer if not demand.brings_headers(release, name)]
    if not bare:
        return passed(ID, observed=", ".join(newer) or "no newer kernel is installed", required=required)
    return warned(
        ID,
        observed="without headers: " + ", ".join(bare),
        required=required,
        remedy="Remove these kernels (`apt remove linux-image-...`) and hold the running one (`apt-mark hold "
        "linux-image-amd64`).",
    )


def _order(release: str) -> tuple[int, ...]:
    """Return the numbers of a kernel's release with those of its build: 6.1.0-50-amd64 is (6, 1, 0, 50)."""
    upstream, _, build = release.partition("-")
    return (*version(upstream), *version(build))
