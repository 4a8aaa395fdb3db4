"""The driver needs GPUs of a real machine, or of a virtual one that passes them through; a container has none."""

from __future__ import annotations

from typing import Final

from appliance.checks import demand
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "virtualization"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask what kind of machine this is."""
    observed = {"none": "a real machine", "machine": "a virtual machine"}.get(facts.virtualization or "", "a container")
    if facts.virtualization is None:
        observed = "unknown"
    if not demand.gpus(release):
        return passed(ID, observed=observed, required=demand.nothing(release))
    required = "a real machine, or a virtual one with the GPUs passed through"
    if facts.virtualization in {"none", "machine"}:
        return passed(ID, observed=observed, required=required)
    return warned(
        ID,
        observed=observed,
        required=required,
        remedy="Install on the machine itself: a container can neither load the driver nor restart the node.",
    )
