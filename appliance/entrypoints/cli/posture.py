"""Verbs for auditors: how the node is hardened, and what has tried to get out of it."""

from __future__ import annotations

import click

from appliance.domain.posture import PostureFinding, Standing, counts
from appliance.entrypoints.cli.calling import as_json, at, call, say, table

NODE_NEEDS_A_PERSON = 3


@click.command()
@click.option("--all", "is_all", is_flag=True, help="Show what is met too.")
@as_json
def compliance(*, is_all: bool, is_json: bool) -> int:
    """Measure the node against the items of CIS and STIG that bear on it; exit status 3 where one is not met."""
    findings = call(lambda client: client.posture())
    if is_json:
        for finding in findings:
            say(finding)
    else:
        _print_findings(findings, is_all=is_all)
    return NODE_NEEDS_A_PERSON if any(f.standing is Standing.NOT_MET for f in findings) else 0


def _print_findings(findings: tuple[PostureFinding, ...], *, is_all: bool) -> None:
    shown = [f for f in findings if is_all or f.standing is not Standing.MET]
    table(
        [(f.id, f.standing.value.upper(), f.observed, ", ".join(f.references)) for f in shown],
        ("ITEM", "STANDING", "SEEN", "REFERENCES"),
    )
    for finding in shown:
        note = finding.reason or finding.remedy
        if note:
            click.echo(f"\n{finding.id}: {finding.title}\n  {note}")
    click.echo("\n" + ", ".join(f"{number} {standing.value}" for standing, number in counts(findings).items()))


@click.command()
@as_json
def egress(*, is_json: bool) -> int:
    """Say what has tried to get out of the node; exit status 3 where the appliance itself has."""
    report = call(lambda client: client.egress())
    if is_json:
        say(report)
    else:
        click.echo(report.sentence)
        rows = [
            (a.account, a.protocol, a.destination, str(a.count), at(a.first_at), at(a.last_at)) for a in report.attempts
        ]
        table(rows, ("ACCOUNT", "HOW", "TO", "TIMES", "FIRST", "LAST"))
        click.echo("All were refused. What this cannot show:")
        for limit in report.limits:
            click.echo(f"  - {limit}")
    return NODE_NEEDS_A_PERSON if report.ours else 0
