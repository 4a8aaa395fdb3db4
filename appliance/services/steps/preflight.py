"""Step `preflight`: is this node fit for the release on the medium?

The release is read without being verified, for its figures only; `import` verifies it afterwards.
"""

from __future__ import annotations

from pathlib import Path

from appliance.domain.events import FindingReported
from appliance.domain.preflight import Finding, Outcome
from appliance.ports import NodeProbe
from appliance.services.preflight import evaluate, require_passable
from appliance.services.steps import StepContext
from bundles.layout import open_bundle, peek


def preflight(probe: NodeProbe, medium: Path | None) -> tuple[Finding, ...]:
    """Ask all checks, against the release on `medium` where one is named. Raises MediaMissing, TrustError."""
    release = None if medium is None else peek(open_bundle(medium))
    return evaluate(probe.facts(), release)


class PreflightStep:
    """Reports each finding; raises PreflightBlocked where one is blocking. Changes nothing."""

    def __init__(self, probe: NodeProbe) -> None:
        self._probe = probe

    def run(self, context: StepContext) -> str:
        """Ask and report."""
        findings = preflight(self._probe, Path(context.parameters["medium"]))
        for finding in findings:
            context.emit(_reported(finding))
        require_passable(findings)
        warnings = sum(finding.outcome is Outcome.WARN for finding in findings)
        return f"{len(findings)} checks, {warnings} warnings, nothing blocks"


def _reported(finding: Finding) -> FindingReported:
    return FindingReported(
        check=finding.check,
        outcome=finding.outcome.value,
        blocking=finding.blocking,
        observed=finding.observed,
        required=finding.required,
        remedy=finding.remedy,
        title=finding.title,
        group=finding.group,
    )
