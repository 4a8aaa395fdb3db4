"""Wheels and packages of a release are compiled for one processor architecture."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "architecture"
REQUIRED: Final = "x86_64"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Accept x86_64 alone."""
    if facts.architecture == REQUIRED:
        return passed(ID, observed=facts.architecture, required=REQUIRED)
    return failed(
        ID,
        observed=facts.architecture,
        required=REQUIRED,
        remedy="Use a node with x86_64 processors: the release holds programs for no other.",
    )
