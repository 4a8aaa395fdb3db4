"""In FIPS mode people expect validated cryptography everywhere; the appliance brings its own."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "fips"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Say what FIPS mode does and does not cover."""
    required = "a known state"
    if not facts.fips_enabled:
        return passed(ID, observed="FIPS mode is off", required=required)
    return warned(
        ID,
        observed="FIPS mode is on",
        required=required,
        remedy="Record in the site's risk file that signatures (Ed25519) and TLS of the appliance come from the "
        "OpenSSL inside its own environment, which is not a validated module.",
    )
