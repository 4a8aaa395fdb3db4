"""The pages of the install wizard as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from textual.content import Content

from appliance.domain.license import RevenueBand
from appliance.domain.preflight import Finding, Outcome
from bundles.errors import LeewardError
from console.render import text
from console.render.frame import Frame

WHO_FIELDS = (
    ("legal_entity", "Legal entity that uses the model"),
    ("signatory", "Who makes this statement"),
    ("role", "In which role"),
)

BANDS = {
    RevenueBand.UNDER_HALF: "under 50 % of the threshold",
    RevenueBand.FIFTY_TO_EIGHTY: "50 to 80 % of the threshold",
    RevenueBand.EIGHTY_TO_HUNDRED: "80 to 100 % of the threshold",
    RevenueBand.OVER: "over the threshold: the licence gives no rights without an agreement",
}

QUESTIONS = {
    "medium": [
        Content.styled("Where is the medium with the release?", "bold"),
        text.muted("The folder where it is mounted. It is only read, and all of it is verified."),
        Content(""),
    ],
    "who": [
        Content.styled("Who states that the model may be used here?", "bold"),
        text.muted("The statement is dated, kept in the audit log and part of evidence exports."),
        Content(""),
    ],
    "revenue": [
        Content.styled("Global consolidated revenue of the preceding month?", "bold"),
        text.muted("The licence's threshold is US$ 20 million a month (clause 2). Only the band is kept."),
    ],
    "terms": [
        Content.styled("Are the licence terms of this release accepted?", "bold"),
        text.muted("Their texts lie on the medium and stay on the node, below licenses/."),
    ],
}

_PAGE_NAMES = {
    "medium": "Medium", "check": "Node check", "who": "Who", "revenue": "Revenue", "terms": "Terms", "begin": "Begin",
}  # fmt: skip
_WORDS = {Outcome.PASS: text.OK, Outcome.WARN: text.WARN, Outcome.FAIL: text.FAIL}


class Answered(Protocol):
    """The answers, as far as they are drawn."""

    medium: str
    legal_entity: str
    signatory: str
    role: str
    band: RevenueBand | None


def strip(node: str, slot: str | None, simulated: tuple[str, ...], frame: Frame) -> Content:
    """Draw the top line: the node, and which release serves while another is asked for."""
    left = [Content(f"{node}   INSTALL   {f'{slot} is current' if slot else 'no release yet'}")]
    if simulated:
        left.extend((Content("   "), Content.styled(f" SIMULATED: {', '.join(simulated)} ", "bold reverse")))
    return text.ends(Content.assemble(*left), Content(text.clock(frame.now)), frame.width)


def page_line(pages: Sequence[str], current: int, frame: Frame) -> Content:
    """Draw where one is among the pages."""
    parts = []
    for place, page in enumerate(pages):
        name = f"{place + 1} {_PAGE_NAMES[page]}"
        if place < current:
            parts.append(Content.assemble(f"{place + 1} ", ("ok", "$success")))
        elif place == current:
            parts.append(Content.styled(f"{frame.capabilities.glyphs.now} {name}", "bold $primary"))
        else:
            parts.append(text.muted(name))
    return Content.assemble(" ", Content("   ").join(parts)).truncate(frame.width, ellipsis=True)


def finding_rows(findings: tuple[Finding, ...] | None, refusal: LeewardError | None, frame: Frame) -> list[Content]:
    """Draw what the node check found, worst first."""
    if findings is None:
        return [Content.assemble(text.FAIL, "  The check could not be made.")] if refusal else [
            Content.assemble(text.BUSY, "  Reading the medium and checking this node...")
        ]  # fmt: skip
    order = (Outcome.FAIL, Outcome.WARN, Outcome.PASS)
    worst_first = sorted(findings, key=lambda finding: order.index(finding.outcome))
    return [_finding(finding, frame) for finding in worst_first]


def refusal_lines(refusal: LeewardError | None, findings: tuple[Finding, ...] | None, frame: Frame) -> list[Content]:
    """Draw why the check could not be made, or what to do about what it found."""
    if refusal is not None:
        return [
            Content(""),
            Content.styled(f"{refusal.title}.", "bold $error"),
            *text.labelled("Why", refusal.detail, frame.width),
            *text.labelled("Remedy", refusal.remedy, frame.width, style="bold"),
        ]
    bad = [finding for finding in findings or () if finding.outcome is not Outcome.PASS]
    remedies = [Content.assemble((f"{finding.check}: ", "bold"), finding.remedy) for finding in bad[:4]]
    return [Content(""), *remedies] if remedies else []


def summary_lines(answers: Answered, node: str) -> list[Content]:
    """Draw what will be done, and ask for the node's name as consent."""
    band = BANDS[answers.band] if answers.band else text.UNKNOWN
    return [
        Content.styled("Install this release now?", "bold"),
        Content(""),
        Content.assemble(text.muted("Medium      "), answers.medium),
        Content.assemble(
            text.muted("Statement   "), f"{answers.signatory}, {answers.role}, for {answers.legal_entity}"
        ),
        Content.assemble(text.muted("Revenue     "), band),
        Content.assemble(text.muted("Terms       "), "accepted"),
        Content(""),
        Content("The node is changed from here on: services, users, files below /opt and /var/lib."),
        Content.assemble("Type the node's name, ", (node, "bold"), ", and press Enter to begin."),
        Content(""),
    ]


def _finding(finding: Finding, frame: Frame) -> Content:
    name = text.fit(finding.check, 18)
    seen = text.fit(finding.observed, max(10, (frame.width - 30) // 2))
    blocking = " blocking" if finding.blocking else ""
    needed = text.muted(f"waived: {finding.waiver}" if finding.waiver else f"needs {finding.required}{blocking}")
    word = text.WARN if finding.waiver else _WORDS[finding.outcome]
    return Content.assemble(word, "  ", name, "  ", seen, "  ", needed).truncate(frame.width, ellipsis=True)
