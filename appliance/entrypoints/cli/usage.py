"""Verbs for use and its worth: usage records, their sums, costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import click

from appliance.domain.costs import CostReport
from appliance.domain.sheet import csv_line
from appliance.domain.usage_report import UsageDimension, UsageSum
from appliance.entrypoints.cli.calling import as_json, at, call, say, table

BAR_WIDTH: Final = 40
FIGURES: Final = (
    "requests", "settled", "partial", "abandoned", "admitted", "prompt_tokens", "completion_tokens", "cached_tokens",
    "reasoning_tokens", "requests_with_unknown_tokens",
)  # fmt: skip
_DAY: Final = click.DateTime(["%Y-%m-%d", "%Y-%m"])


@click.group(invoke_without_command=True)
@click.option("--after", type=click.IntRange(min=0), default=0, help="Show records after this row.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1_000, show_default=True)
@as_json
@click.pass_context
def usage(context: click.Context, *, after: int, limit: int, is_json: bool) -> None:
    """Show usage records, oldest first. No prompt and no answer is in them."""
    if context.invoked_subcommand is not None:
        return
    rows = call(lambda client: client.usage(after, limit))
    if is_json:
        for row in rows:
            say(row)
        return

    def count(tokens: int | None) -> str:
        return "?" if tokens is None else str(tokens)

    table(
        [
            (
                str(row.row),
                at(row.record.admitted_at),
                row.record.team,
                row.record.state.value,
                count(row.record.usage.prompt_tokens),
                count(row.record.usage.completion_tokens),
                row.record.request_id,
            )
            for row in rows
        ],
        ("ROW", "ADMITTED", "TEAM", "STATE", "PROMPT", "COMPLETION", "REQUEST"),
    )


@usage.command()
@click.option(
    "--by",
    multiple=True,
    type=click.Choice([one.value for one in UsageDimension]),
    default=(UsageDimension.MONTH.value, UsageDimension.TEAM.value),
    show_default=True,
    help="What to sum by; may be given several times.",
)
@click.option("--since", type=_DAY, help="From this day or month on, UTC.")
@click.option("--until", type=_DAY, help="To before this day or month, UTC.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "plot", "csv", "json"]),
    default="table",
    show_default=True,
    help="A plot shows completion tokens.",
)
def report(*, by: tuple[str, ...], since: datetime | None, until: datetime | None, form: str) -> None:
    """Sum requests and tokens by day, month, team, key or model."""
    dimensions = [UsageDimension(one) for one in dict.fromkeys(by)]
    sums = call(lambda client: client.usage_sums(dimensions, since=_utc(since), until=_utc(until)))
    if form == "json":
        for one in sums:
            say({**dict(zip((d.value for d in dimensions), one.group, strict=True)), **_figures(one)})
    elif form == "csv":
        click.echo(csv_line((*(one.value for one in dimensions), *FIGURES)), nl=False)
        for one in sums:
            click.echo(csv_line((*one.group, *_figures(one).values())), nl=False)
    elif form == "plot":
        _plot(sums)
    else:
        shown = ("requests", "prompt_tokens", "completion_tokens", "requests_with_unknown_tokens")
        rows = [(*one.group, *(f"{_figures(one)[name]:,}" for name in shown)) for one in sums]
        table(rows, (*(d.value.upper() for d in dimensions), "REQUESTS", "PROMPT", "COMPLETION", "UNKNOWN"))


@click.command()
@click.option("--month", type=click.DateTime(["%Y-%m"]), help="Such as 2026-11; default: this month.")
@as_json
def costs(*, month: datetime | None, is_json: bool) -> None:
    """Show what a month's use would have cost at list prices, beside the node's own cost."""
    begin = _utc(month or datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    end = None if begin is None else begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    seen = call(lambda client: client.costs(since=begin, until=end))
    if is_json:
        say(seen)
        return
    rows = [
        (
            line.month,
            line.team,
            line.model,
            f"{line.requests:,}",
            f"{line.prompt_tokens:,}",
            f"{line.completion_tokens:,}",
            "no price" if line.list_price is None else f"{line.list_price:,.2f}",
        )
        for line in seen.lines
    ]
    table(rows, ("MONTH", "TEAM", "MODEL", "REQUESTS", "PROMPT", "COMPLETION", seen.currency))
    for sentence in cost_sentences(seen):
        click.echo(sentence)


def cost_sentences(seen: CostReport) -> list[str]:
    """Say what the figures mean, with where prices come from and what they leave out."""
    told = [f"At list prices: {seen.list_price:,.2f} {seen.currency}."]
    if seen.node_per_month is None:
        told.append("The node's own cost is unknown: give [node] purchase and years in /etc/leeward/prices.toml.")
    else:
        told.append(f"The node costs {seen.node_per_month:,.2f} {seen.currency} a month. {_compared(seen)}")
    unknown = sum(line.requests_with_unknown_tokens for line in seen.lines)
    if unknown:
        told.append(f"{unknown:,} requests with unknown tokens are left out, so the sum is a lower bound.")
    if seen.unpriced:
        told.append(f"Without a price, and left out: {', '.join(seen.unpriced)}.")
    used = {line.model for line in seen.lines}
    told += [
        f"Price of {price.model}: {price.input} in, {price.output} out per million tokens, seen {price.seen_on} at "
        f"{price.source}."
        for price in seen.prices
        if price.model in used
    ]
    return told


def _compared(seen: CostReport) -> str:
    assert seen.node_per_month is not None  # noqa: S101  the caller has looked
    if not seen.node_per_month:
        return ""
    return f"The use is worth {seen.list_price / seen.node_per_month:.0%} of it."


def _plot(sums: Sequence[UsageSum]) -> None:
    """Draw completion tokens as bars; plain characters, as a serial console shows them."""
    most = max((one.completion_tokens for one in sums), default=0)
    rows = [
        (
            " ".join(one.group),
            "#" * round(BAR_WIDTH * one.completion_tokens / (most or 1)),
            f"{one.completion_tokens:,}",
        )
        for one in sums
    ]
    table(rows, ("GROUP", "COMPLETION TOKENS".ljust(BAR_WIDTH), ""))


def _figures(one: UsageSum) -> dict[str, int]:
    plain = asdict(one)
    return {name: plain[name] for name in FIGURES}


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
