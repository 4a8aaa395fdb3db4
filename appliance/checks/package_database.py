"""A package that was left half-installed makes the package manager refuse everything that comes after it."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "package-database"
_SHOWN: Final = 5


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for packages that dpkg has begun and not ended."""
    required = "every package installed or absent"
    if facts.broken_packages is None:
        return warned(
            ID,
            observed="unknown: there is no dpkg here",
            required=required,
            remedy="Ask the node's own package manager for incomplete transactions, such as with `dnf check`.",
        )
    if not facts.broken_packages:
        return passed(ID, observed="whole", required=required)
    more = len(facts.broken_packages) - _SHOWN
    return failed(
        ID,
        observed=", ".join(facts.broken_packages[:_SHOWN]) + (f" and {more} more" if more > 0 else ""),
        required=required,
        remedy="Run `dpkg --configure -a`; what it cannot finish, remove with `dpkg --remove` and install again.",
    )
