"""The release's packages and roles are built for named operating systems, and run on no other."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "operating-system"
SUPPORTED: Final = ("debian-12",)
"""What the roles are tested on; a release may name fewer or more."""


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Compare `<id>-<version>` with the list."""
    named = release.requirements.operating_systems if release and release.requirements else SUPPORTED
    required = " or ".join(named)
    if f"{facts.os_id}-{facts.os_version}" in named:
        return passed(ID, observed=facts.os_pretty_name, required=required)
    return failed(
        ID,
        observed=facts.os_pretty_name,
        required=required,
        remedy=f"Install {required} on this node: the release carries packages for no other system.",
    )
