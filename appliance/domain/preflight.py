"""Preflight: questions to a node, each answered by a finding that a person can act on.

A person may waive a finding, with a reason and under a name; a waived one no longer blocks and says
so wherever it is shown. In strict mode a warning blocks as a failure does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from appliance.domain.errors import RequestInvalid

LONGEST_REASON = 500
"""Characters."""


class Outcome(StrEnum):
    """What a check concluded."""

    PASS = "pass"  # noqa: S105  a verdict, not a password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one preflight check concluded about this node.

    `blocking` says whether going on is refused; `waiver` is the reason for which a person lets this
    finding pass, and empty where nobody does.
    """

    check: str
    outcome: Outcome
    blocking: bool
    observed: str
    required: str
    remedy: str
    title: str = ""
    group: str = ""
    why: str = ""
    waivable: bool = True
    waiver: str = ""

    @property
    def word(self) -> str:
        """One word for a list: ok, WARN, BLOCKS or WAIVED."""
        if self.waiver:
            return "WAIVED"
        if self.blocking:
            return "BLOCKS"
        return "ok" if self.outcome is Outcome.PASS else self.outcome.value.upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How findings are judged: whether warnings block, and the reason for each waived check."""

    strict: bool = False
    waivers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Judgement:
        """Read the parameters `strict` and `waivers` of an operation; raises RequestInvalid.

        `strict` is `true` or `false`; `waivers` is a JSON object of check and reason.
        """
        strict = parameters.get("strict", "false")
        if strict not in {"true", "false"}:
            raise RequestInvalid(detail=f"strict is {strict[:20]!r}.", remedy="Say `true` or `false`.")
        return cls(strict=strict == "true", waivers=_waivers(parameters.get("waivers", "{}")))


def judged(findings: Iterable[Finding], judgement: Judgement) -> tuple[Finding, ...]:
    """Return the findings as they block under `judgement`.

    Raises RequestInvalid for a waiver of a check that is unknown or must not be waived. A waiver for
    a check that passes is no error and changes nothing.
    """
    findings = tuple(findings)
    known = {finding.check: finding for finding in findings}
    wrong = [f"{check} is no check" for check in sorted(set(judgement.waivers) - set(known))]
    wrong += [f"{check} cannot be waived" for check in sorted(judgement.waivers) if _is_firm(known.get(check))]
    if wrong:
        raise RequestInvalid(
            detail=f"{'; '.join(wrong)}.",
            remedy="Waive checks by the ids that `leeward preflight` prints; what trust and room depend on stands.",
        )
    return tuple(_judged(finding, judgement) for finding in findings)


def _judged(finding: Finding, judgement: Judgement) -> Finding:
    if finding.outcome is Outcome.PASS:
        return finding
    reason = judgement.waivers.get(finding.check, "")
    if reason:
        return replace(finding, blocking=False, waiver=reason)
    return replace(finding, blocking=finding.blocking or judgement.strict)


def _is_firm(finding: Finding | None) -> bool:
    return finding is not None and not finding.waivable


def _waivers(text: str) -> dict[str, str]:
    remedy = 'Give a JSON object of check and reason, such as {"gpu-ecc": "agreed with the owner on 3 May"}.'
    try:
        given = json.loads(text)
    except ValueError as error:
        raise RequestInvalid(detail=f"waivers is not JSON: {error}.", remedy=remedy) from error
    if not isinstance(given, dict) or not all(isinstance(reason, str) for reason in given.values()):
        raise RequestInvalid(detail="waivers is not an object of texts.", remedy=remedy)
    reasons = {check: " ".join(reason.split()) for check, reason in given.items()}
    wrong = [check for check, reason in reasons.items() if not 0 < len(reason) <= LONGEST_REASON]
    if wrong:
        raise RequestInvalid(
            detail=f"The reason for waiving {', '.join(wrong)} is empty or longer than {LONGEST_REASON} characters.",
            remedy="Say in a sentence why the finding is accepted, and by whom.",
        )
    return reasons
