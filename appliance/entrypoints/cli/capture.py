"""Verbs for content capture: whether prompts and answers are kept, sealed for an auditor."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.entrypoints.cli.calling import as_json, at, call, say

DAY_S = 86_400
LONGEST_DAYS = 90


@click.group()
def capture() -> None:
    """Keep prompts and answers, sealed so that one auditor alone can read them. Off by default."""


@capture.command()
@click.option("--for", "auditor", required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="The auditor's public key (PEM).")  # fmt: skip
@click.option("--reason", required=True, help="Why; it is in the audit log and in everybody's health report.")
@click.option("--days", type=click.IntRange(1, LONGEST_DAYS), required=True, help="For how long.")
@as_json
def on(*, auditor: Path, reason: str, days: int, is_json: bool) -> None:
    """Capture from now on, for a time; the gateway holds to it within seconds."""
    pem = auditor.read_text(encoding="utf-8")
    order = call(lambda client: client.capture_on(auditor_pem=pem, reason=reason, lasts_s=days * DAY_S))
    if is_json:
        say(order)
    else:
        click.echo(f"Prompts and answers are captured until {at(order.until)}, sealed for the key\n  {order.auditor}")


@capture.command()
def off() -> None:
    """Capture nothing from now on; what was captured stays."""
    call(lambda client: client.capture_off())
    click.echo("Nothing is captured any more; the gateway holds to it within seconds.")


@capture.command()
@as_json
def show(*, is_json: bool) -> None:
    """Say whether content is captured, for whom and why."""
    order = call(lambda client: client.capture())
    if is_json:
        say(order)
    elif order is None:
        click.echo("Nothing is captured.")
    else:
        click.echo(
            f"Prompts and answers are captured since {at(order.since)} until {at(order.until)}, by {order.by}:\n"
            f"  {order.reason}\nsealed for the key\n  {order.auditor}"
        )
