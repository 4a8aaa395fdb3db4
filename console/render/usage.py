"""The Usage screen as lines: a month's requests and tokens by day, team or model, and what they are worth.

A bar is a group's prompt and completion tokens beside the largest group's. A day without a record
has a zero, because the ledger says so; tokens that nobody knows are told and never drawn as zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from textual.content import Content

from appliance.domain.costs import CostLine, CostReport
from appliance.domain.usage_report import UsageDimension, UsageSum
from bundles.errors import LeewardError
from console.render import text
from console.render.frame import Frame
from console.render.listing import Line, Table

NAMES: Final = {UsageDimension.DAY: "day", UsageDimension.TEAM: "team", UsageDimension.MODEL: "model"}
_UNSETTLED: Final = "unsettled"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthOfUse:
    """What was used from `since` to before `until`; `costs` is the error where no price could be had."""

    since: datetime
    until: datetime
    sums: dict[UsageDimension, tuple[UsageSum, ...]]
    costs: CostReport | LeewardError


def month_start(at: datetime) -> datetime:
    """Return the first instant of a calendar month."""
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(since: datetime) -> datetime:
    """Return the first instant of the month after."""
    return month_start(since + timedelta(days=32))


def totals(value: MonthOfUse, frame: Frame) -> list[Content]:
    """Draw the month's sums, and what they are worth at list prices beside the node's own cost."""
    sums = value.sums[UsageDimension.TEAM]
    requests, settled = _total(sums, "requests"), _total(sums, "settled")
    others = ", ".join(
        f"{count:,} {word}"
        for word, count in (
            ("partial", _total(sums, "partial")),
            ("abandoned", _total(sums, "abandoned")),
            (_UNSETTLED, _total(sums, "admitted")),
        )
    )
    prompt, completion = _total(sums, "prompt_tokens"), _total(sums, "completion_tokens")
    cached, unknown = _total(sums, "cached_tokens"), _total(sums, "requests_with_unknown_tokens")
    lines = [
        *text.labelled("Requests", f"{requests:,}: {settled:,} settled, {others}", frame.width),
        *text.labelled(
            "Tokens",
            f"{'at least ' if unknown else ''}{prompt:,} prompt ({cached:,} cached), {completion:,} completion",
            frame.width,
        ),
    ]
    if unknown:
        note = f"{unknown:,} requests have unknown tokens; they are in no sum below."
        lines.append(Content.assemble(text.muted(" " * 9), (note, "$warning")))
    return lines + _worth(value.costs, frame)


def table(value: MonthOfUse, by: UsageDimension, frame: Frame) -> Table:
    """Draw one bar a group; days in the calendar's order, newest first, others by use."""
    sums = value.sums[by]
    if by is UsageDimension.DAY:
        sums = _every_day(sums, value, frame.now)
    else:
        sums = tuple(sorted(sums, key=_tokens, reverse=True))
    most = max((_tokens(one) for one in sums), default=0)
    prices = _prices(value.costs, by)
    name_width, bar_width = (24, 44) if frame.wide else (18, 16)
    header = f"{NAMES[by].capitalize():<{name_width}} {'tokens':<{bar_width}} {'':>9}{'requests':>10}{'unsettled':>11}"
    header += f"{'list price':>13}" if by is not UsageDimension.DAY else ""
    lines = tuple(
        Line(
            key=one.group[0],
            rest=Content.assemble(
                f"{text.fit(_name(one, by), name_width)} ",
                text.bar(_tokens(one) / most if most else 0.0, bar_width, frame.capabilities),
                f" {'>=' if one.requests_with_unknown_tokens else '':>2}{text.short(_tokens(one)):>7}",
                f"{one.requests:>10,}",
                (f"{one.admitted:>11,}", "$warning" if one.admitted else ""),
                "" if by is UsageDimension.DAY else f"{_money(prices.get(one.group[0])):>13}",
            ),
        )
        for one in sums
    )
    return Table(header=header, lines=lines, empty="No request was admitted in this month.")


def detail(value: MonthOfUse, by: UsageDimension, key: str) -> list[Content]:
    """Draw every figure of one group."""
    one = next((one for one in value.sums[by] if one.group[0] == key), None)
    if one is None:
        return [Content.assemble(text.OFF, "  No request was admitted.")]
    rows = [
        (NAMES[by].capitalize(), key),
        ("Requests", f"{one.requests:,}"),
        ("  settled", f"{one.settled:,}"),
        ("  partial", f"{one.partial:,}   the answer broke off; counted as far as it went"),
        ("  abandoned", f"{one.abandoned:,}   the gateway was killed meanwhile"),
        ("  unsettled", f"{one.admitted:,}   under way"),
        ("Prompt tokens", f"{one.prompt_tokens:,}"),
        ("  cached", f"{one.cached_tokens:,}"),
        ("Completion tokens", f"{one.completion_tokens:,}"),
        ("  reasoning", f"{one.reasoning_tokens:,}"),
        ("Unknown tokens", f"{one.requests_with_unknown_tokens:,} requests, in no sum of tokens"),
    ]
    if by is not UsageDimension.DAY:
        rows.append(("At list prices", _money(_prices(value.costs, by).get(key))))
    return [Content.assemble(text.muted(f"{name:<20}"), figure) for name, figure in rows]


def _every_day(sums: Sequence[UsageSum], value: MonthOfUse, now: datetime) -> tuple[UsageSum, ...]:
    known = {one.group[0]: one for one in sums}
    last = min(value.until - timedelta(days=1), now)
    days = [value.since + timedelta(days=place) for place in range((last - value.since).days + 1)]
    return tuple(known.get(f"{day:%Y-%m-%d}", _nothing(f"{day:%Y-%m-%d}")) for day in reversed(days))


def _nothing(day: str) -> UsageSum:
    return UsageSum(
        group=(day,), requests=0, settled=0, partial=0, abandoned=0, admitted=0, prompt_tokens=0, completion_tokens=0,
        cached_tokens=0, reasoning_tokens=0, requests_with_unknown_tokens=0,
    )  # fmt: skip


def _name(one: UsageSum, by: UsageDimension) -> str:
    name = one.group[0]
    return f"{name} {datetime.fromisoformat(name):%a}" if by is UsageDimension.DAY else name


def _tokens(one: UsageSum) -> int:
    return one.prompt_tokens + one.completion_tokens


def _total(sums: Iterable[UsageSum], figure: str) -> int:
    return sum(getattr(one, figure) for one in sums)


def _worth(costs: CostReport | LeewardError, frame: Frame) -> list[Content]:
    if isinstance(costs, LeewardError):
        return text.labelled("Prices", f"{text.UNKNOWN}: {costs.detail} {costs.remedy}", frame.width)
    unknown = any(line.requests_with_unknown_tokens for line in costs.lines)
    left_out = f"; no price for {', '.join(costs.unpriced)}" if costs.unpriced else ""
    bound = "at least " if unknown or costs.unpriced else ""
    worth = f"{bound}{costs.list_price:,.2f} {costs.currency} at list prices{left_out}"
    node = "unknown; give [node] in prices.toml"
    if costs.node_per_month is not None:
        node = f"{costs.node_per_month:,.2f} {costs.currency} a month"
    return text.labelled("Worth", f"{worth}. The node's own cost: {node}.", frame.width)


def _prices(costs: CostReport | LeewardError, by: UsageDimension) -> dict[str, Decimal | None]:
    """Sum list prices by group; none for a group of which a part has no price."""
    if isinstance(costs, LeewardError):
        return {}
    sums: dict[str, Decimal | None] = {}
    for line in costs.lines:
        name = _group(line, by)
        before = sums.get(name, Decimal(0))
        sums[name] = None if before is None or line.list_price is None else before + line.list_price
    return sums


def _group(line: CostLine, by: UsageDimension) -> str:
    return line.team if by is UsageDimension.TEAM else line.model


def _money(amount: Decimal | None) -> str:
    return text.UNKNOWN if amount is None else f"{amount:,.2f}"
