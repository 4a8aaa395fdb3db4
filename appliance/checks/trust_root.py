"""Without the publisher's root, compared with paper, there is nothing by which to tell a release from a forgery."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "trust-root"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:
    """Ask whether a root is anchored on this node."""
    if release is None:
        return passed(
            ID,
            observed="anchored" if facts.trust_anchored else "not anchored",
            required="nothing: no release is named",
        )
    required = "anchored on this node"
    if facts.trust_anchored:
        return passed(ID, observed="anchored", required=required)
    remedy = (
        "Start from the medium's own `bootstrap` with the fingerprint that came on paper; it anchors the root before "
        "anything is installed."
    )
    if facts.trust_anchored is None:
        return warned(ID, observed="unknown", required=required, remedy=remedy)
    return failed(ID, observed="not anchored", required=required, remedy=remedy)
