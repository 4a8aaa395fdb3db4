"""A file system that went read-only after an error takes no weights and no usage record."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "writable"
PATHS: Final = ("/var/lib/leeward", "/opt")


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for the mount option `ro`."""
    required = "writable file systems for " + " and ".join(PATHS)
    places = [(path, mount) for path in PATHS if (mount := facts.mount(path))]
    if len(places) < len(PATHS):
        return warned(ID, observed="unknown", required=required, remedy="Read `findmnt` for the two paths.")
    wrong = [f"{path} (on {mount.path})" for path, mount in places if "ro" in mount.options]
    if not wrong:
        return passed(ID, observed="writable", required=required)
    return failed(
        ID,
        observed="read-only: " + ", ".join(wrong),
        required=required,
        remedy="Read `dmesg` for the error behind it; check the disk (`smartctl -a`), run `fsck` on the unmounted "
        "file system, and mount it again.",
    )
