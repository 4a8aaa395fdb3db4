"""The Compliance screen as lines: what is not met first, then what could not be seen, exceptions, what is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual.content import Content

from appliance.domain.egress import EgressReport
from appliance.domain.posture import PostureFinding, Standing, counts
from console.render import text
from console.render.frame import Frame
from console.render.listing import Line, Table

ORDER: Final = (Standing.NOT_MET, Standing.UNKNOWN, Standing.EXCEPTION, Standing.MET)
WORDS: Final = {
    Standing.NOT_MET: text.FAIL,
    Standing.UNKNOWN: text.STALE,
    Standing.EXCEPTION: text.OFF,
    Standing.MET: text.OK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compliance:
    """How the node is hardened, and what has tried to get out."""

    findings: tuple[PostureFinding, ...]
    egress: EgressReport


def summary(seen: Compliance, frame: Frame) -> list[Content]:
    """Draw how many items have each standing, and the sentence on egress."""
    found = counts(seen.findings)
    items = ", ".join(f"{found[standing]} {standing.value}" for standing in ORDER)
    word = text.FAIL if found[Standing.NOT_MET] else text.STALE if found[Standing.UNKNOWN] else text.OK
    out = text.FAIL if seen.egress.ours else text.OK
    if frame.stale:
        word = out = text.STALE
    return [
        Content.assemble(word, f"  {items}"),
        Content.assemble(out, f"  {seen.egress.sentence}"),
    ]


def table(seen: Compliance, frame: Frame) -> Table:
    """Draw one line an item, worst first."""
    name_width = 26 if frame.wide else 20
    header = f"     {'item':<{name_width}} {'standing':<10} seen"
    lines = tuple(
        Line(
            key=finding.id,
            state=WORDS[finding.standing],
            rest=Content.assemble(
                f" {text.fit(finding.id, name_width)} {finding.standing.value:<10} ", text.muted(finding.observed)
            ),
        )
        for finding in sorted(seen.findings, key=lambda f: ORDER.index(f.standing))
    )
    return Table(header=header, lines=lines, empty="No item bears on this node.")


def detail(finding: PostureFinding, width: int) -> list[Content]:
    """Draw one item: what is demanded, seen, why it may be unmet, what to do."""
    lines = [
        Content.assemble(WORDS[finding.standing], f"  {finding.standing.value}   ", (finding.title, "bold")),
        Content(""),
        *text.labelled("Item", finding.id, width),
        *text.labelled("From", ", ".join(finding.references), width),
        *text.labelled("By", finding.measured, width),
        *text.labelled("Seen", finding.observed, width),
    ]
    if finding.reason:
        lines.extend(text.labelled("Reason", finding.reason, width))
    if finding.remedy:
        lines.extend(text.labelled("Remedy", finding.remedy, width, style="bold"))
    return lines


def egress_lines(report: EgressReport) -> list[Content]:
    """Draw every try to get out, and what this cannot show."""
    tries = [
        f"{a.account:<20} {a.protocol:<5} {a.destination:<24} {a.count:>6} times   last {a.last_at:%Y-%m-%d %H:%M:%SZ}"
        for a in report.attempts
    ]
    return [
        Content.styled(report.sentence, "bold"),
        Content(""),
        *(Content(line) for line in tries or ["No try was counted."]),
        Content(""),
        Content.styled("All were refused. What this cannot show:", "bold $primary"),
        *(Content(f"  - {limit}") for limit in report.limits),
    ]
