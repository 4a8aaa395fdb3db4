"""Hundreds of thousands of small files come out of the wheels; a file system without inodes is full with room left."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "inodes"
PATHS: Final = ("/var/lib/leeward", "/opt")
ENVIRONMENTS: Final = 150_000
"""Files of both Python environments. Measured 62,000 for the CPU engine; CUDA's wheels hold about as many again."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare the free inodes with the files of the release and of its environments."""
    is_new = release is not None and release.slot != facts.current_slot
    needed = ENVIRONMENTS + len(release.files) if release and is_new else 1_000
    required = f"≥ {needed:,} on the file systems of {' and '.join(PATHS)}"
    places = [place for path in PATHS if (place := facts.filesystem(path))]
    if len(places) < len(PATHS):
        return warned(ID, observed="unknown", required=required, remedy=f"Read `df -i {' '.join(PATHS)}`.")
    short = [p for p in places if p.free_inodes is not None and p.free_inodes < needed]
    if short:
        return failed(
            ID,
            observed=", ".join(f"{p.path}: {p.free_inodes:,} free" for p in short),
            required=required,
            remedy="Remove small files that are not needed, or make the file system anew with more inodes "
            "(`mkfs.ext4 -N`), or as XFS.",
        )
    fewest = min((p.free_inodes for p in places if p.free_inodes is not None), default=None)
    observed = "made as they are needed" if fewest is None else f"{fewest:,} free"
    return passed(ID, observed=observed, required=required)
