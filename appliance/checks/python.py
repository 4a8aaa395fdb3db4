"""The wheels of a release are compiled for one version of Python."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed
from appliance.checks.figures import version
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "python"
REQUIRED: Final = (3, 11)


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Accept any 3.11."""
    if version(facts.python_version)[:2] == REQUIRED:
        return passed(ID, observed=facts.python_version, required="3.11")
    return failed(
        ID,
        observed=facts.python_version,
        required="3.11",
        remedy="Install python3 and python3-venv of Debian 12; the package archive on the medium holds both.",
    )
