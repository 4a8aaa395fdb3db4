"""Verbs for what is on record: audit log and licence."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.client import ApplianceClient
from appliance.domain.audit import AuditEntry, follow_lines, to_line
from appliance.domain.errors import AuditBroken
from appliance.domain.license import RevenueBand
from appliance.entrypoints.cli.calling import as_json, at, call, say, table

PAGE = 1_000


@click.group(invoke_without_command=True)
@click.option("--after", type=click.IntRange(min=0), default=None, help="Show entries after this number.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json
@click.pass_context
def audit(context: click.Context, *, after: int | None, limit: int, is_json: bool) -> None:
    """Show the audit log: its newest entries, or those after a number."""
    if context.invoked_subcommand is not None:
        return

    async def read(client: ApplianceClient) -> tuple[AuditEntry, ...]:
        head = await client.audit_head()
        start = after if after is not None else max(0, (head.seq if head else 0) - limit)
        return await client.audit(start, limit)

    entries = call(read)
    if is_json:
        for entry in entries:
            say(entry)
        return
    rows = [(str(e.seq), at(e.at), e.actor, e.action, e.object, e.outcome) for e in entries]
    table(rows, ("NO", "AT", "BY", "ACTION", "OBJECT", "OUTCOME"))


@audit.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--head", help="A head that was kept elsewhere; the log must lead to it.")
@as_json
def verify(*, file: Path | None, head: str | None, is_json: bool) -> None:
    """Follow the whole audit log from its first entry: the node's own, or FILE, the audit.jsonl of an export."""

    async def read(client: ApplianceClient) -> list[str]:
        lines: list[str] = []
        while page := await client.audit(len(lines), PAGE):
            lines += [to_line(entry) for entry in page]
        return lines

    if file is None:
        chain = follow_lines(call(read), expected_head=head)
    else:
        with file.open(encoding="utf-8", errors="replace") as lines:
            chain = follow_lines(lines, expected_head=head)
    if is_json:
        say(chain)
    if not chain.holds:
        raise AuditBroken(
            detail=f"The log breaks at entry {chain.broken_at}: {chain.reason}.",
            remedy="Keep the node as it is, copy /var/lib/leeward/state away, and call the auditor.",
        )
    if not is_json:
        click.echo(f"{chain.entries} entries hold. Head {chain.head}")


@click.group("license", invoke_without_command=True)
@as_json
@click.pass_context
def license_(context: click.Context, *, is_json: bool) -> None:
    """Show licence terms, statements on record, and what follows from them."""
    if context.invoked_subcommand is not None:
        return
    seen = call(lambda client: client.license())
    if is_json:
        say(seen)
        return
    click.echo(f"State: {seen.state.value}")
    for terms in seen.terms:
        threshold = f"{terms.threshold_usd_monthly:,} USD a month" if terms.threshold_usd_monthly else "no threshold"
        click.echo(f"  {terms.spdx_id} for {terms.applies_to} of {terms.release}: {threshold}")
    rows = [(a.use_month, a.band.value, a.legal_entity, a.signatory, a.role, at(a.made_at)) for a in seen.attestations]
    table(rows, ("MONTH", "BAND", "LEGAL ENTITY", "SIGNATORY", "ROLE", "MADE"))


@license_.command()
@click.option(
    "--band",
    required=True,
    type=click.Choice([band.value for band in RevenueBand]),
    help="Last month's revenue and the threshold.",
)
@click.option("--legal-entity", required=True, help="Company that the statement is for.")
@click.option("--signatory", required=True, help="Who makes the statement.")
@click.option("--role", required=True, help="The signatory's role in the company.")
@click.option("--month", "use_month", help="Month of use, such as 2026-11; default: this month.")
@as_json
def attest(*, is_json: bool, **statement: str | None) -> None:
    """Record a person's statement on the preceding month's revenue."""
    made = call(lambda client: client.attest({name: word for name, word in statement.items() if word}))
    if is_json:
        say(made)
    else:
        click.echo(f"Recorded for {made.use_month}: {made.band.value}, by {made.signatory} ({made.role}).")
