"""Preflight: every question to the node, in order. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from appliance.checks import CHECKS
from appliance.domain.errors import PreflightBlocked
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release


def evaluate(facts: NodeFacts, release: Release | None) -> tuple[Finding, ...]:
    """Ask all checks. Without a release those that depend on one say what they see."""
    return tuple(replace(check.evaluate(facts, release), title=check.title, group=str(check.group)) for check in CHECKS)


def blocking(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings with which going on cannot end well."""
    return tuple(finding for finding in findings if finding.blocking)


def require_passable(findings: Iterable[Finding]) -> None:
    """Raise PreflightBlocked where a finding is blocking; it names every one of them and what to do."""
    stops = blocking(findings)
    if stops:
        raise PreflightBlocked(
            detail="; ".join(f"{f.check}: found {f.observed}, required {f.required}" for f in stops),
            remedy=" ".join(f.remedy for f in stops),
        )
