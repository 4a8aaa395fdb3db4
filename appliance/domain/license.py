"""Licence terms of the model and the statements that people make about them.

The Modified MIT licence of Mistral-Medium-3.5-128B ends all rights for a company whose global
consolidated monthly revenue exceeded US$20 million in the preceding month (LICENSE, clause 2). The
appliance records statements and warns; it does not decide the law and never stops serving on its
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RevenueBand(StrEnum):
    """Where the preceding month's revenue lies against the threshold; no exact figure is kept."""

    UNDER_HALF = "under-50-percent"
    FIFTY_TO_EIGHTY = "50-to-80-percent"
    EIGHTY_TO_HUNDRED = "80-to-100-percent"
    OVER = "over-100-percent"


class ComplianceState(StrEnum):
    """What follows from terms and attestations."""

    COMPLIANT = "compliant"
    ATTESTATION_DUE = "attestation-due"
    OVER_THRESHOLD = "over-threshold"
    NO_TERMS = "no-terms"


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseTerms:
    """One licence text that came with a release."""

    spdx_id: str
    applies_to: str
    text_sha256: str
    threshold_usd_monthly: int | None
    release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A person's dated statement on one month's revenue."""

    use_month: str
    band: RevenueBand
    legal_entity: str
    signatory: str
    role: str
    made_at: datetime
    recorded_by: str


def assess(terms: tuple[LicenseTerms, ...], attestations: tuple[Attestation, ...], now: datetime) -> ComplianceState:
    """Say what follows for the month of `now` (UTC calendar month)."""
    if not terms:
        return ComplianceState.NO_TERMS
    if all(t.threshold_usd_monthly is None for t in terms):
        return ComplianceState.COMPLIANT
    month = f"{now:%Y-%m}"
    current = [a for a in attestations if a.use_month == month]
    if not current:
        return ComplianceState.ATTESTATION_DUE
    latest = max(current, key=lambda a: a.made_at)
    return ComplianceState.OVER_THRESHOLD if latest.band is RevenueBand.OVER else ComplianceState.COMPLIANT
