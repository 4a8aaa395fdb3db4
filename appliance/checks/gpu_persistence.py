"""Without persistence the driver drops its state whenever nothing uses it, and every look takes seconds."""

from __future__ import annotations

from typing import Final

from appliance.checks import gpus
from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gpu-persistence"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask every GPU for persistence mode."""
    required = "on"
    if finding := gpus.unasked(ID, facts, release, required=required):
        return finding
    without = [gpu for gpu in facts.gpus if gpu.persistence_enabled is False]
    if not without:
        return passed(ID, observed="on", required=required)
    return warned(
        ID,
        observed="off: " + gpus.named(without),
        required=required,
        remedy="Provisioning turns it on; by hand it is `systemctl enable --now nvidia-persistenced`.",
    )
