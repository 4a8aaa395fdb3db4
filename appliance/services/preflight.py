"""Preflight: every question to the node, in order. All but `measured` and the audit entries is pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from appliance.checks import CHECKS, Check
from appliance.domain.errors import PreflightBlocked
from appliance.domain.node import NodeFacts
from appliance.domain.operation import Actor
from appliance.domain.preflight import Finding
from appliance.ports import AuditLog, DiskMeter
from bundles.release import Release

STATE: Final = "/var/lib/leeward"


def evaluate(facts: NodeFacts, release: Release | None) -> tuple[Finding, ...]:
    """Ask all checks. Without a release those that depend on one say what they see."""
    return tuple(_asked(check, facts, release) for check in CHECKS)


def _asked(check: Check, facts: NodeFacts, release: Release | None) -> Finding:
    return replace(
        check.evaluate(facts, release),
        title=check.title,
        group=str(check.group),
        why=check.why,
        waivable=check.waivable,
    )


def measured(facts: NodeFacts, meter: DiskMeter | None, media: Sequence[Path] = ()) -> NodeFacts:
    """Return the facts with what the disks and the media give now; without a meter, as they are."""
    if meter is None:
        return facts
    timings = (meter.state(STATE), *map(meter.medium, media))
    return replace(facts, disk_timings=tuple(timing for timing in timings if timing is not None))


def record_waivers(audit: AuditLog, findings: Iterable[Finding], *, actor: Actor, purpose: str) -> None:
    """Write who lets which finding pass, for what reason, and for which operation or look."""
    for finding in findings:
        if finding.waiver:
            details = {
                "reason": finding.waiver,
                "observed": finding.observed,
                "required": finding.required,
                "purpose": purpose,
            }
            audit.append(
                actor=actor.name, action="waive-finding", object_=finding.check, outcome="waived", details=details
            )


def blocking(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings with which going on is refused."""
    return tuple(finding for finding in findings if finding.blocking)


def require_passable(findings: Iterable[Finding]) -> None:
    """Raise PreflightBlocked where a finding is blocking; it names every one of them and what to do."""
    stops = blocking(findings)
    if stops:
        raise PreflightBlocked(
            detail="; ".join(f"{f.check}: found {f.observed}, required {f.required}" for f in stops),
            remedy=" ".join(f.remedy for f in stops),
        )
