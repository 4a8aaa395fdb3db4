"""From a verb to the management API and back to the terminal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from appliance.client import ApplianceClient
from appliance.domain.wire import to_plain

T = TypeVar("T")
Verb = TypeVar("Verb", bound=Callable[..., Any])


def as_json(verb: Verb) -> Verb:
    """Give a verb the option `--json`."""
    option = click.option("--json", "is_json", is_flag=True, help="Print one JSON value a line.")
    return option(verb)


def call(ask: Callable[[ApplianceClient], Awaitable[T]]) -> T:
    """Run one conversation with the daemon. Raises what the daemon raised, DaemonUnreachable."""

    async def conversation() -> T:
        async with ApplianceClient(click.get_current_context().find_root().obj) as client:
            return await ask(client)

    return asyncio.run(conversation())


def say(value: Any) -> None:  # noqa: ANN401  any domain value
    """Print a domain value as one line of JSON."""
    click.echo(json.dumps(to_plain(value), ensure_ascii=False))


def at(moment: datetime | None) -> str:
    """Write a time to the second, in UTC."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def table(rows: Sequence[tuple[str, ...]], heads: tuple[str, ...]) -> None:
    """Print columns; a single empty table says so."""
    if not rows:
        click.echo("(none)")
        return
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    for row in [heads, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
