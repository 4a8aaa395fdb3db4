"""Without a policy for Leeward's units SELinux lets them do either nothing or everything."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "selinux"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask for SELinux's mode; the tested system does not have it."""
    required = "disabled, or a policy that was tested here"
    if facts.selinux == "disabled":
        return passed(ID, observed="disabled", required=required)
    return warned(
        ID,
        observed=facts.selinux or "unknown",
        required=required,
        remedy="Run the installation once in permissive mode and read `ausearch -m avc`; the units bring sandboxes of "
        "their own in any case.",
    )
