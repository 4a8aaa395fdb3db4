"""Compliance: which licence terms hold, and what people have stated about them.

Every act is in the audit log before it is in the register. The appliance warns; it never stops
serving on its own, because a missing form must not take a hospital's system down.
"""

from __future__ import annotations

from datetime import datetime

from appliance.domain.license import Attestation, ComplianceState, LicenseTerms, Statement, assess, note
from appliance.domain.operation import Actor
from appliance.ports import AuditLog, Clock, LicenseRegister
from bundles.release import Release


class Compliance:
    """Records terms and attestations, and says what follows. All methods may be called again without harm."""

    def __init__(self, *, register: LicenseRegister, audit: AuditLog, clock: Clock) -> None:
        self._register = register
        self._audit = audit
        self._clock = clock

    def record_terms(self, release: Release, actor: Actor) -> tuple[LicenseTerms, ...]:
        """Record the licence texts that a release brings; returns those that were new."""
        known = set(self._register.terms())
        new = tuple(terms for terms in terms_of(release) if terms not in known)
        for terms in new:
            self._audit.append(
                actor=actor.name,
                action="license.terms",
                object_=terms.applies_to,
                outcome="recorded",
                details={
                    "spdx_id": terms.spdx_id,
                    "text_sha256": terms.text_sha256,
                    "release": terms.release,
                    "threshold_usd_monthly": str(terms.threshold_usd_monthly or "none"),
                },
            )
            self._register.add_terms(terms)
        return new

    def attest(self, statement: Statement, actor: Actor, *, made_at: datetime | None = None) -> Attestation:
        """Record a person's statement. `made_at` lets a step that runs again record the same one.

        Raises RequestInvalid for a month that has not begun.
        """
        made = statement.made(at=made_at or self._clock.now(), recorded_by=actor.name)
        if made in self._register.attestations():
            return made
        self._audit.append(
            actor=actor.name,
            action="license.attest",
            object_=made.use_month,
            outcome="recorded",
            details={
                "band": made.band.value,
                "legal_entity": made.legal_entity,
                "signatory": made.signatory,
                "role": made.role,
            },
        )
        self._register.add_attestation(made)
        return made

    def state(self) -> ComplianceState:
        """Say what follows for the present month."""
        return assess(self._register.terms(), self._register.attestations(), self._clock.now())

    def note(self) -> str:
        """Say it in words."""
        return note(self.state(), self._clock.now())


def terms_of(release: Release) -> tuple[LicenseTerms, ...]:
    """Return the licence terms that stand in a release's manifest."""
    return tuple(
        LicenseTerms(
            spdx_id=entry.spdx_id,
            applies_to=entry.applies_to,
            text_sha256=release.file(entry.path).sha256,
            threshold_usd_monthly=entry.threshold_usd_monthly,
            release=release.slot,
        )
        for entry in release.licenses
    )
