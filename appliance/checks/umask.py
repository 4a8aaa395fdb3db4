"""Under a strict umask the files that people put in place, such as a certificate, cannot be read by the units."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "umask"
_OTHERS_READ: Final = 0o004


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look at the umask that people get; Leeward's own units and roles set theirs."""
    required = "one that lets others read (022)"
    if facts.umask is not None and not facts.umask & _OTHERS_READ:
        return passed(ID, observed=f"{facts.umask:03o}", required=required)
    return warned(
        ID,
        observed="unknown" if facts.umask is None else f"{facts.umask:03o}",
        required=required,
        remedy="Keep it if the site's rules ask for it, and check the mode of every file that you put under "
        "/etc/leeward: docs/design.md names owner and mode of each.",
    )
