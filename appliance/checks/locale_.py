"""Programs that people run beside Leeward break file names and licence texts in a locale without UTF-8."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "locale"
_PLAIN: Final = frozenset({"C", "POSIX"})


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether the system's LANG is a UTF-8 one; none at all is taken for C, which Python reads as UTF-8."""
    required = "UTF-8, or none"
    if facts.locale is None or facts.locale in _PLAIN:
        return passed(ID, observed=facts.locale or "none is set", required=required)
    if facts.locale.partition(".")[2].lower().replace("-", "").startswith("utf8"):
        return passed(ID, observed=facts.locale, required=required)
    return warned(
        ID,
        observed=facts.locale,
        required=required,
        remedy="Run `localectl set-locale LANG=C.UTF-8`, and log in again.",
    )
