"""After the next restart the newest installed kernel runs; a driver that is not made for it is gone then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.checks.figures import version
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "next-kernel"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask whether the release's driver is made for the newest installed kernel; the role refuses it otherwise."""
    if not demand.brings_driver_sources(release):
        return passed(ID, observed="not asked", required="nothing: no driver is built")
    required = "one for which the release has headers, as its driver was proven with them"
    if facts.installed_kernels is None:
        return warned(ID, observed="unknown", required=required, remedy="Look into /boot for kernels.")
    newer = _next_kernels(facts.kernel, facts.installed_kernels)
    bare = [
        name for name in newer if not (demand.brings_headers(release, name) or demand.brings_modules(release, name))
    ]
    if not bare:
        return passed(ID, observed=", ".join(newer) or "no newer kernel is installed", required=required)
    finding = failed if newer[-1] in bare else warned
    return finding(
        ID,
        observed="without headers: " + ", ".join(bare),
        required=required,
        remedy=f"Remove it (`apt remove {' '.join(f'linux-image-{name}' for name in bare)}`, on RHEL `dnf remove "
        "kernel-core-...`) and hold the running one, or ask the publisher for a release made for it.",
    )


def _next_kernels(running: str, installed: Iterable[str]) -> list[str]:
    """Return what may run after the next restart, oldest first: the newest, if the running one is not installed."""
    known = sorted(installed, key=_order)
    return [name for name in known if _order(name) > _order(running)] if running in known else known[-1:]


def _order(release: str) -> tuple[int, ...]:
    """Return the numbers of a kernel's release with those of its build: 6.1.0-50-amd64 is (6, 1, 0, 50)."""
    upstream, _, build = release.partition("-")
    return (*version(upstream), *version(build))
