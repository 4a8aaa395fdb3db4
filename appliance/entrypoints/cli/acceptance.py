"""Verbs that measure a node, and show what was measured."""

from __future__ import annotations

import click

from appliance.domain.acceptance import DEFAULT_CONCURRENCY, DEFAULT_DIAGNOSTICS_LEVEL, DEFAULT_DURATION_S
from appliance.domain.operation import OperationKind
from appliance.domain.passport_page import page
from appliance.entrypoints.cli.calling import as_json, call, say
from appliance.entrypoints.cli.operations import following, start

NODE_NEEDS_A_PERSON = 3


@click.command()
@click.option(
    "--duration", "duration_s", type=int, default=DEFAULT_DURATION_S, show_default=True, help="Burn-in, in seconds."
)
@click.option(
    "--diagnostics",
    "diagnostics_level",
    type=click.IntRange(0, 4),
    default=DEFAULT_DIAGNOSTICS_LEVEL,
    show_default=True,
    help="Level of `dcgmi diag`, where the node has it; 0 for none.",
)
@click.option("--clients", "concurrency", type=int, default=DEFAULT_CONCURRENCY, show_default=True, help="Of the load.")
@following
@as_json
def acceptance(*, duration_s: int, diagnostics_level: int, concurrency: int, is_followed: bool, is_json: bool) -> int:
    """Measure the node with its current release and write its capacity passport; nobody is served meanwhile."""
    parameters = {
        "duration_s": str(duration_s),
        "diagnostics_level": str(diagnostics_level),
        "concurrency": str(concurrency),
    }
    return start(OperationKind.ACCEPTANCE, parameters, is_followed=is_followed, is_json=is_json)


@click.command()
@click.option("--all", "is_all", is_flag=True, help="Show earlier passports too.")
@as_json
def passport(*, is_all: bool, is_json: bool) -> int:
    """Show what the node was measured to do; exit status 3 where the newest passport shows a loss."""
    views = call(lambda client: client.passports())
    if not views and not is_json:
        click.echo("This node has no passport. Measure it with `leeward acceptance`.")
    for view in views if is_all else views[:1]:
        if is_json:
            say(view)
        else:
            click.echo(page(view))
    is_worse = bool(views) and bool(views[0].drops or views[0].passport.below_band)
    return NODE_NEEDS_A_PERSON if is_worse else 0
