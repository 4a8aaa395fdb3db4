"""A slot is made of hard links into the store, which cannot cross from one file system to another."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "one-file-system"
PATHS: Final = ("/var/lib/leeward/store", "/var/lib/leeward/slots", "/var/lib/leeward/staging")


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether store, slots and staging lie on one mount."""
    required = "store, slots and staging on one mount"
    mounts = {mount.path for path in PATHS if (mount := facts.mount(path))}
    if len(mounts) == 1:
        return passed(ID, observed=f"all on {mounts.pop()}", required=required)
    if not mounts:
        return warned(ID, observed="unknown", required=required, remedy="Read `findmnt -T` for the three paths.")
    return failed(
        ID,
        observed="on " + ", ".join(sorted(mounts)),
        required=required,
        remedy="Mount one file system on /var/lib/leeward and none below it.",
    )
