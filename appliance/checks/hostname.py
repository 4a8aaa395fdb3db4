"""A node that cannot look up its own name without asking a server waits for that server at every log line and login."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "hostname"
_LONGEST: Final = 63
_NO_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "(none)", ""})


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask for a name that /etc/hosts knows and that fits into certificates."""
    required = f"a name of at most {_LONGEST} characters that stands in /etc/hosts"
    remedy = "Run `hostnamectl set-hostname NAME`, and write the name behind 127.0.1.1 into /etc/hosts."
    if facts.hostname in _NO_NAMES or len(facts.hostname) > _LONGEST:
        return warned(ID, observed=facts.hostname[:80] or "none", required=required, remedy=remedy)
    if facts.hostname_resolves:
        return passed(ID, observed=f"{facts.hostname}, in /etc/hosts", required=required)
    told = "unknown whether it stands in /etc/hosts" if facts.hostname_resolves is None else "not in /etc/hosts"
    return warned(ID, observed=f"{facts.hostname}, {told}", required=required, remedy=remedy)
