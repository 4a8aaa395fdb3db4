"""Step `preflight`: is this node fit for the release on the medium, or for the one that is in its slots?

The release on a medium is read without being verified, for its figures only; `import` verifies it
afterwards. A release in a slot was verified when it was imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from appliance.domain.events import FindingReported
from appliance.domain.preflight import Finding, Judgement, Outcome, judged
from appliance.ports import AuditLog, DiskMeter, NodeProbe, Slots
from appliance.services.preflight import evaluate, measured, record_waivers, require_passable
from appliance.services.steps import StepContext
from appliance.services.steps.intake import media_paths
from bundles.errors import ContentMismatch, MediaMissing
from bundles.layout import open_bundle, peek
from bundles.release import Release


def preflight(
    probe: NodeProbe, medium: Path | None, *, volumes: Sequence[Path] = (), meter: DiskMeter | None = None
) -> tuple[Finding, ...]:
    """Ask all checks, against the release on `medium` and `volumes` where one is named.

    Each volume carries the whole manifest, so the first on which it can be read will do. Raises MediaMissing,
    TrustError.
    """
    media = (*(() if medium is None else (medium,)), *volumes)
    release = _release_on(media)
    return evaluate(measured(probe.facts(), meter, media), release)


def _release_on(media: Sequence[Path]) -> Release | None:
    for path in media[:-1]:
        try:
            return peek(open_bundle(path))
        except (MediaMissing, ContentMismatch):
            continue
    return peek(open_bundle(media[-1])) if media else None


class PreflightStep:
    """Reports each finding; raises PreflightBlocked where one is blocking. Changes nothing but the audit log."""

    def __init__(self, probe: NodeProbe, *, slots: Slots, audit: AuditLog, meter: DiskMeter | None = None) -> None:
        self._probe = probe
        self._slots = slots
        self._audit = audit
        self._meter = meter

    def run(self, context: StepContext) -> str:
        """Ask, judge as the operation's parameters say, and report."""
        media = media_paths(context.parameters)
        found = (
            preflight(self._probe, media[0], volumes=media[1:], meter=self._meter)
            if media
            else evaluate(measured(self._probe.facts(), self._meter), self._imported())
        )
        findings = judged(found, Judgement.of(context.parameters))
        record_waivers(self._audit, findings, actor=context.actor, purpose=f"operation {context.operation_id}")
        for finding in findings:
            context.emit(_reported(finding))
        require_passable(findings)
        warnings = sum(finding.outcome is Outcome.WARN and not finding.waiver for finding in findings)
        waived = sum(bool(finding.waiver) for finding in findings)
        told = f", {waived} waived" if waived else ""
        return f"{len(findings)} checks, {warnings} warnings{told}, nothing blocks"

    def _imported(self) -> Release | None:
        """Return the release that `provision` is about: the one that waits, else the current one."""
        slot = self._slots.pending() or self._slots.current()
        return None if slot is None else self._slots.release(slot)


def _reported(finding: Finding) -> FindingReported:
    values = {field.name: getattr(finding, field.name) for field in fields(finding)}
    return FindingReported(**{**values, "outcome": finding.outcome.value})
