"""Costs: what the node's use would have cost at list prices, beside what the node costs its owner.

Pure. Money is Decimal, in one currency for a price book. What has no price is told and never taken
for free; requests with unknown tokens are counted beside the sum, which is therefore a lower bound.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from appliance.domain.errors import ConfigInvalid
from appliance.domain.usage_report import UsageSum

MILLION: Final = Decimal(1_000_000)
MONTHS_A_YEAR: Final = 12
_CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """List prices per million tokens. `cached_input` is `None` where cached tokens cost as much as others."""

    model: str
    input: Decimal
    output: Decimal
    cached_input: Decimal | None
    source: str
    seen_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """What the node costs its owner: bought once and written off over `years`, and run every month."""

    purchase: Decimal
    years: Decimal
    monthly: Decimal

    @property
    def per_month(self) -> Decimal:
        """Amortisation and running costs of one month."""
        return (self.purchase / (self.years * MONTHS_A_YEAR) + self.monthly).quantize(_CENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Prices in one currency; `node` is `None` where the site has not said what the node costs."""

    currency: str
    prices: tuple[Price, ...]
    node: NodeCost | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One team's use of one model in one month; `list_price` is `None` where the model has no price."""

    month: str
    team: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    requests_with_unknown_tokens: int
    list_price: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Lines, their sum, and the node's own cost of one month."""

    currency: str
    lines: tuple[CostLine, ...]
    prices: tuple[Price, ...]
    node_per_month: Decimal | None

    @property
    def list_price(self) -> Decimal:
        """Sum over what has a price."""
        return sum((line.list_price for line in self.lines if line.list_price is not None), Decimal(0))

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Models that were used and have no price."""
        return tuple(dict.fromkeys(line.model for line in self.lines if line.list_price is None))


def price_book(text: str, *, where: str) -> PriceBook:
    """Read a price book in TOML; raises ConfigInvalid, which names the key that is missing or wrong.

    currency = "USD"
    [[prices]]   model, input, output (per million tokens), cached_input?, source, seen_on (a date)
    [node]       purchase, years, monthly?
    """
    try:
        tables = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(where, f"does not parse: {error}") from error
    try:
        _only(tables, {"currency", "prices", "node"}, "")
        node = tables.get("node")
        return PriceBook(
            currency=_text(tables, "currency", ""),
            prices=tuple(_price(table, f"prices.{place}.") for place, table in enumerate(tables.get("prices", []))),
            node=None if node is None else _node(node),
        )
    except _Wrong as error:
        raise _invalid(where, str(error)) from error


def cost_report(sums: Iterable[UsageSum], book: PriceBook) -> CostReport:
    """Price sums by month, team and model (in this order in `group`)."""
    prices = {price.model: price for price in book.prices}
    return CostReport(
        currency=book.currency,
        lines=tuple(_line(one, prices.get(one.group[2])) for one in sums),
        prices=book.prices,
        node_per_month=None if book.node is None else book.node.per_month,
    )


def _line(one: UsageSum, price: Price | None) -> CostLine:
    month, team, model = one.group
    return CostLine(
        month=month,
        team=team,
        model=model,
        requests=one.requests,
        prompt_tokens=one.prompt_tokens,
        cached_tokens=one.cached_tokens,
        completion_tokens=one.completion_tokens,
        requests_with_unknown_tokens=one.requests_with_unknown_tokens,
        list_price=None if price is None else _list_price(one, price),
    )


def _list_price(one: UsageSum, price: Price) -> Decimal:
    cached_input = price.input if price.cached_input is None else price.cached_input
    fresh = one.prompt_tokens - one.cached_tokens
    total = fresh * price.input + one.cached_tokens * cached_input + one.completion_tokens * price.output
    return (total / MILLION).quantize(_CENT)


class _Wrong(Exception):
    """A key that is missing or wrong."""


def _price(table: object, at: str) -> Price:
    fields = _table(table, {"model", "input", "output", "cached_input", "source", "seen_on"}, at)
    seen_on = fields.get("seen_on")
    if type(seen_on) is not date:
        raise _Wrong(f"{at}seen_on is not a date")
    return Price(
        model=_text(fields, "model", at),
        input=_amount(fields, "input", at),
        output=_amount(fields, "output", at),
        cached_input=_amount(fields, "cached_input", at) if "cached_input" in fields else None,
        source=_text(fields, "source", at),
        seen_on=seen_on,
    )


def _node(table: object) -> NodeCost:
    fields = _table(table, {"purchase", "years", "monthly"}, "node.")
    years = _amount(fields, "years", "node.")
    if not years:
        raise _Wrong("node.years is 0")
    monthly = _amount(fields, "monthly", "node.") if "monthly" in fields else Decimal(0)
    return NodeCost(purchase=_amount(fields, "purchase", "node."), years=years, monthly=monthly)


def _table(value: object, known: set[str], at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{at.rstrip('.')} is not a table")
    _only(value, known, at)
    return value


def _only(fields: Mapping[str, Any], known: set[str], at: str) -> None:
    unknown = sorted(fields.keys() - known)
    if unknown:
        raise _Wrong(f"unknown key {at}{unknown[0]}")


def _text(fields: Mapping[str, Any], name: str, at: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise _Wrong(f"{at}{name} is missing or not a text")
    return value


def _amount(fields: Mapping[str, Any], name: str, at: str) -> Decimal:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not Decimal(value).is_finite() or value < 0:
        raise _Wrong(f"{at}{name} is missing or not an amount")
    return Decimal(value)


def _invalid(where: str, complaint: str) -> ConfigInvalid:
    return ConfigInvalid(
        detail=f"{where}: {complaint}.", remedy="Correct the price book (docs: usage and costs), then ask again."
    )
