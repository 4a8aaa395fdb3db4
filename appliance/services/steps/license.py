"""Step `license`: the terms of the release, and a person's statement on them.

Terms are recorded together with the statement that accepts them, never before one.
"""

from __future__ import annotations

from appliance.domain.errors import TermsNotAccepted
from appliance.domain.events import LogLine
from appliance.domain.license import ComplianceState, statement_from_json
from appliance.ports import LicenseRegister, Slots
from appliance.services.compliance import Compliance, terms_of
from appliance.services.steps import StepContext
from appliance.services.steps.provision import slot_to_serve
from bundles.release import Release


class LicenseStep:
    """Records terms and statement. Raises TermsNotAccepted without a statement, RequestInvalid for a bad one."""

    def __init__(self, *, slots: Slots, compliance: Compliance, register: LicenseRegister) -> None:
        self._slots = slots
        self._compliance = compliance
        self._register = register

    def run(self, context: StepContext) -> str:
        """Accept, then record."""
        release = self._slots.release(slot_to_serve(self._slots))
        given = context.parameters.get("attestation")
        if given is None:
            self._require_accepted(release)
            return f"terms of {release.slot} were accepted before; {self._compliance.note()}"
        statement = statement_from_json(given, month_of=context.started_at)
        self._compliance.record_terms(release, context.actor)
        self._compliance.attest(statement, context.actor, made_at=context.started_at)
        note = self._compliance.note()
        if self._compliance.state() is ComplianceState.OVER_THRESHOLD:
            context.emit(LogLine(text=f"WARNING {note}"))
        spdx_ids = ", ".join(sorted({entry.spdx_id for entry in release.licenses}))
        return f"{spdx_ids or 'no licence texts'}; {note}"

    def _require_accepted(self, release: Release) -> None:
        is_known = set(terms_of(release)) <= set(self._register.terms())
        state = self._compliance.state()
        if is_known and state in {ComplianceState.COMPLIANT, ComplianceState.OVER_THRESHOLD}:
            return
        texts = ", ".join(f"{entry.spdx_id} ({entry.applies_to})" for entry in release.licenses)
        raise TermsNotAccepted(
            detail=f"Release {release.slot} comes under {texts}; nobody has accepted that here for this month.",
            remedy="Give it: `--attest-band`, `--legal-entity`, `--signatory` and `--role`, or an answers file.",
        )
