"""Main memory without error correction changes weights on their way to the GPUs, and nobody notices."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "memory-ecc"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask EDAC for controllers with ECC and for errors that could not be corrected."""
    required = "ECC memory without uncorrected errors"
    ecc = facts.memory_ecc
    if ecc is not None and ecc.uncorrected:
        return failed(
            ID,
            observed=f"{ecc.uncorrected} uncorrected errors since the start",
            required=required,
            remedy="Read `journalctl -k | grep EDAC` for the module's place, and have that module replaced.",
        )
    if ecc is not None:
        return passed(
            ID, observed=f"{ecc.controllers} controllers, {ecc.corrected} corrected errors", required=required
        )
    if not demand.gpus(release):
        return passed(ID, observed="unknown", required=demand.nothing(release))
    return warned(
        ID,
        observed="unknown: no EDAC driver speaks for the memory",
        required=required,
        remedy="Read `dmidecode -t memory`: `Error Correction Type` must not be None.",
    )
