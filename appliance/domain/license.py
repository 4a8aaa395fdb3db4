"""Licence terms of the model and the statements that people make about them.

The Modified MIT licence of Mistral-Medium-3.5-128B ends all rights for a company whose global
consolidated monthly revenue exceeded US$20 million in the preceding month (LICENSE, clause 2). The
appliance records statements and warns; it does not decide the law and never stops serving on its
own.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from appliance.domain.errors import RequestInvalid

NAME_CHARACTERS: Final = 200


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseStatus:
    """All that is recorded, and what follows from it now."""

    state: ComplianceState
    terms: tuple[LicenseTerms, ...]
    attestations: tuple[Attestation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a person states, before it is recorded. `use_month` is `YYYY-MM`; the revenue is of the month before.

    Raises RequestInvalid for a month that is none, or a name that is empty, too long or unprintable.
    """

    use_month: str
    band: RevenueBand
    legal_entity: str
    signatory: str
    role: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", self.use_month):
            raise _invalid(f"{self.use_month!r} is not a month", "Write the month as 2026-11.")
        for name, value in (("legal entity", self.legal_entity), ("signatory", self.signatory), ("role", self.role)):
            if not value.strip() or len(value) > NAME_CHARACTERS or not value.isprintable():
                raise _invalid(
                    f"the {name} is empty, longer than {NAME_CHARACTERS} characters or not printable",
                    f"Write the {name} as it stands in the company's register.",
                )

    def made(self, *, at: datetime, recorded_by: str) -> Attestation:
        """Return the attestation of this statement; raises RequestInvalid for a month that has not begun."""
        if self.use_month > f"{at:%Y-%m}":
            raise _invalid(
                f"{self.use_month} has not begun: its preceding month's revenue cannot be known",
                f"State it for {at:%Y-%m}, or wait.",
            )
        return Attestation(
            use_month=self.use_month,
            band=self.band,
            legal_entity=self.legal_entity.strip(),
            signatory=self.signatory.strip(),
            role=self.role.strip(),
            made_at=at,
            recorded_by=recorded_by,
        )


def statement_from_json(text: str, *, month_of: datetime) -> Statement:
    """Read a statement from a JSON object with the fields of `Statement`.

    `use_month` may be absent: then it is the month of `month_of`. Raises RequestInvalid.
    """
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise _invalid(f"it is not JSON: {error}", "Give the statement as a JSON object.") from error
    fields = {"band", "legal_entity", "signatory", "role"}
    if not isinstance(plain, dict) or not fields <= set(plain) <= fields | {"use_month"}:
        names = ", ".join(sorted(plain)) if isinstance(plain, dict) else type(plain).__name__
        raise _invalid(f"it has {names or 'no fields'}", f"Give exactly {', '.join(sorted(fields))}.")
    if not all(isinstance(value, str) for value in plain.values()):
        raise _invalid("a field is not text", "Give every field as text.")
    try:
        band = RevenueBand(plain["band"])
    except ValueError:
        bands = ", ".join(RevenueBand)
        raise _invalid(f"the band {plain['band']!r} is unknown", f"Choose one of {bands}.") from None
    return Statement(**{"use_month": f"{month_of:%Y-%m}", **plain, "band": band})


def _invalid(detail: str, remedy: str) -> RequestInvalid:
    return RequestInvalid(detail=detail, remedy=remedy)


def note(state: ComplianceState, now: datetime) -> str:
    """Say in one or two sentences what a state means and who must do what."""
    return {
        ComplianceState.COMPLIANT: f"Covered for {now:%Y-%m}.",
        ComplianceState.ATTESTATION_DUE: f"No statement on the revenue before {now:%Y-%m} is on record. The licence "
        "owner makes it with `leeward license attest`.",
        ComplianceState.OVER_THRESHOLD: f"The statement for {now:%Y-%m} says that revenue exceeded the threshold: the "
        "licence then grants no rights. The licence owner must obtain a commercial licence or end the use.",
        ComplianceState.NO_TERMS: "No release has brought licence terms yet; they are recorded when one is installed.",
    }[state]


def assess(terms: tuple[LicenseTerms, ...], attestations: tuple[Attestation, ...], now: datetime) -> ComplianceState:
    """Say what follows for the month of `now` (UTC calendar month).

    Each legal entity's newest statement counts, by time and then by order of recording; one entity
    over the threshold is enough, whatever another states later.
    """
    if not terms:
        return ComplianceState.NO_TERMS
    if all(t.threshold_usd_monthly is None for t in terms):
        return ComplianceState.COMPLIANT
    month = f"{now:%Y-%m}"
    current = [a for a in attestations if a.use_month == month]
    if not current:
        return ComplianceState.ATTESTATION_DUE
    newest = {a.legal_entity: a for a in sorted(current, key=lambda a: a.made_at)}
    is_over = any(a.band is RevenueBand.OVER for a in newest.values())
    return ComplianceState.OVER_THRESHOLD if is_over else ComplianceState.COMPLIANT
