"""Room for the import and for what is installed from it, per file system.

    store          every file once that the store does not hold yet; a slot is hard links and costs nothing
    staging        one more copy of the largest such file, for an import that is cut off and begun again
    environments   four times the wheels under /opt, which is what they unpack to; none for the current slot
    publisher      at least `requirements.installed_bytes` for all of it, where the release says so

Paths on one device share its room, so their needs are added before they are compared.
"""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.checks.demand import ENVIRONMENT_BYTES_PER_WHEEL_BYTE, wheels_bytes
from appliance.checks.figures import gigabytes
from appliance.domain.node import Filesystem, NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "disk-space"
STATE: Final = "/var/lib/leeward"
PROGRAMS: Final = "/opt"
RESERVE_BYTES: Final = 2 * 10**9
"""Left over for journals, ledger and logs, on each file system."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Add up what each file system must take and compare it with what is free."""
    state, programs = facts.filesystem(STATE), facts.filesystem(PROGRAMS)
    if state is None or programs is None:
        return warned(
            ID,
            observed="unknown",
            required=f"room under {STATE} and {PROGRAMS}",
            remedy=f"Read `df {STATE} {PROGRAMS}` and compare with the size that the medium's READ-ME-FIRST.txt names.",
        )
    needs = _needs(facts, release, shared=_is_shared(state, programs))
    pairs = [(state, needs[0])] if _is_shared(state, programs) else [(state, needs[0]), (programs, needs[1])]
    observed = ", ".join(f"{place.path}: {gigabytes(place.free_bytes)} free" for place, _ in pairs)
    required = ", ".join(f"{place.path}: ≥ {gigabytes(need)}" for place, need in pairs)
    short = [(place, need - place.free_bytes) for place, need in pairs if place.free_bytes < need]
    if not short:
        return passed(ID, observed=observed, required=required)
    missing = " and ".join(f"{gigabytes(lack)} on the file system of {place.path}" for place, lack in short)
    return failed(
        ID,
        observed=observed,
        required=required,
        remedy=f"Free or add {missing}; Leeward deletes nothing that it did not make.",
    )


def _is_shared(one: Filesystem, other: Filesystem) -> bool:
    return bool(one.device) and one.device == other.device


def _needs(facts: NodeFacts, release: Release | None, *, shared: bool) -> tuple[int, int]:
    """Return the bytes needed for state and for programs; where they share a device, all in the first."""
    if release is None:
        return (RESERVE_BYTES, RESERVE_BYTES)
    sizes = {f.sha256: f.size_bytes for f in release.files if f.sha256 not in facts.stored_sha256}
    state = sum(sizes.values()) + max(sizes.values(), default=0) + RESERVE_BYTES
    is_installed = release.slot == facts.current_slot
    programs = (0 if is_installed else ENVIRONMENT_BYTES_PER_WHEEL_BYTE * wheels_bytes(release)) + RESERVE_BYTES
    if not shared:
        return (state, programs)
    together = state + programs - RESERVE_BYTES
    is_new = len(sizes) == len({f.sha256 for f in release.files})
    figure = release.requirements.installed_bytes if release.requirements and is_new else 0
    return (max(together, figure), 0)
