"""The environments and the engine's compile caches hold programs: their file systems must run them."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "noexec"
PATHS: Final = ("/opt", "/var/cache/leeward-engine")


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for the mount option `noexec`."""
    required = "no noexec on " + ", ".join(PATHS)
    observed = [place for path in PATHS if (place := facts.filesystem(path))]
    wrong = [place.path for place in observed if place.noexec]
    if wrong:
        return failed(
            ID,
            observed="noexec on " + ", ".join(wrong),
            required=required,
            remedy="Take noexec out of /etc/fstab for the file system of "
            + " and ".join(wrong)
            + " and run `mount -o remount,exec` on it. /tmp and /var/lib/leeward may keep it.",
        )
    if len(observed) < len(PATHS):
        return warned(ID, observed="not all observed", required=required, remedy="Read `findmnt` for the two paths.")
    return passed(ID, observed="programs may run", required=required)
