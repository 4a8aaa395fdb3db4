"""Verbs that measure a node, and show what was measured."""

from __future__ import annotations

import click

from appliance.domain.acceptance import (
    DEFAULT_CONCURRENCY,
    DEFAULT_DIAGNOSTICS_LEVEL,
    DEFAULT_DURATION_S,
    Passport,
    PassportView,
    drops,
)
from appliance.domain.errors import NotFound
from appliance.domain.operation import OperationKind
from appliance.domain.passport_page import comparison_page, page
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
@click.option("--compare", "pair", nargs=2, metavar="OLD NEW", help="Set two passports side by side, by operation id.")
@as_json
def passport(*, is_all: bool, pair: tuple[str, str] | None, is_json: bool) -> int:
    """Show what the node was measured to do; exit status 3 where the newest passport shows a loss."""
    views = call(lambda client: client.passports())
    if pair:
        return _compare(views, pair, is_json=is_json)
    if not views and not is_json:
        click.echo("This node has no passport. Measure it with `leeward acceptance`.")
    for view in views if is_all else views[:1]:
        if is_json:
            say(view)
        else:
            click.echo(page(view))
    is_worse = bool(views) and bool(views[0].drops or views[0].passport.below_band)
    return NODE_NEEDS_A_PERSON if is_worse else 0


def _compare(views: tuple[PassportView, ...], pair: tuple[str, str], *, is_json: bool) -> int:
    """Show two passports side by side; exit status 3 where the second is worse by more than noise."""
    old, new = (_one(views, operation_id) for operation_id in pair)
    worse = drops(new, old) if old.burn_in.device is new.burn_in.device else ()
    if is_json:
        for drop in worse:
            say(drop)
    else:
        click.echo(comparison_page(old, new), nl=False)
    return NODE_NEEDS_A_PERSON if worse else 0


def _one(views: tuple[PassportView, ...], operation_id: str) -> Passport:
    found = [view.passport for view in views if view.passport.id == operation_id]
    if not found:
        raise NotFound(
            detail=f"No passport has the id {operation_id!a}.", remedy="`leeward passport --all` shows every id."
        )
    return found[0]
