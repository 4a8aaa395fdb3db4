"""Slots are hard links and the ledger needs true fsync; neither is to be had on every file system."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "file-system"
PATH: Final = "/var/lib/leeward"
TESTED: Final = frozenset({"ext4", "xfs"})
_WITHOUT_LINKS: Final = frozenset(
    {"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "iso9660", "squashfs", "tmpfs", "ramfs"}
)


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask what kind of file system holds the store and the ledger."""
    required = "ext4 or XFS on a disk of this node"
    mount = facts.mount(PATH)
    if mount is None:
        return warned(ID, observed="unknown", required=required, remedy=f"Read `findmnt -T {PATH}`.")
    observed = f"{mount.kind} on {mount.path}"
    if mount.kind in TESTED:
        return passed(ID, observed=observed, required=required)
    remedy = f"Make an ext4 or XFS file system on a disk of this node and mount it on {PATH} before the import."
    if mount.kind in _WITHOUT_LINKS:
        return failed(ID, observed=observed, required=required, remedy=remedy)
    return warned(ID, observed=observed, required=required, remedy=remedy)
