"""What use is worth: prices read strictly, and nothing without a price taken for free."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from appliance.domain.costs import CostReport, cost_report, price_book
from appliance.domain.errors import ConfigInvalid
from appliance.domain.usage_report import UsageSum
from appliance.domain.wire import from_plain, to_plain
from appliance.entrypoints.cli.usage import cost_sentences
from appliance.resources import list_prices

BOOK = """
currency = "EUR"
[[prices]]
model = "m"
input = 1.5
output = 7.5
cached_input = 0.5
source = "a page"
seen_on = 2026-11-24
[node]
purchase = 360_000
years = 5
monthly = 1000
"""
USE = UsageSum(
    group=("2026-11", "research", "m"), requests=3, settled=2, partial=1, abandoned=0, admitted=0,
    prompt_tokens=2_000_000, completion_tokens=1_000_000, cached_tokens=1_000_000, reasoning_tokens=0,
    requests_with_unknown_tokens=1,
)  # fmt: skip


def report(text: str = BOOK, *sums: UsageSum) -> CostReport:
    return cost_report(sums or (USE,), price_book(text, where="prices.toml"))


def test_fresh_cached_and_written_tokens_have_their_own_prices() -> None:
    assert report().list_price == Decimal("9.50")  # 1.50 + 0.50 + 7.50


def test_cached_tokens_cost_as_much_as_others_where_no_price_says_otherwise() -> None:
    assert report(BOOK.replace("cached_input = 0.5\n", "")).list_price == Decimal("10.50")


def test_the_node_is_written_off_by_the_month_and_compared() -> None:
    seen = report()

    assert seen.node_per_month == Decimal("7000.00")
    assert "The node costs 7,000.00 EUR a month. The use is worth 0% of it." in cost_sentences(seen)


def test_what_has_no_price_is_named_and_left_out() -> None:
    seen = report(BOOK, USE, replace(USE, group=("2026-11", "research", "other")))

    assert seen.list_price == Decimal("9.50")
    assert seen.unpriced == ("other",)
    assert "Without a price, and left out: other." in cost_sentences(seen)


def test_requests_with_unknown_tokens_make_the_sum_a_lower_bound() -> None:
    assert "1 requests with unknown tokens are left out, so the sum is a lower bound." in cost_sentences(report())


def test_a_node_without_a_price_is_unknown_and_not_free() -> None:
    seen = report(BOOK[: BOOK.index("[node]")])

    assert seen.node_per_month is None
    assert any("own cost is unknown" in sentence for sentence in cost_sentences(seen))


def test_the_prices_that_ship_name_their_source() -> None:
    book = price_book(list_prices(), where="shipped")

    assert {price.model for price in book.prices} == {"mistral-medium-3.5"}
    assert all(price.source and price.input > 0 and price.output > 0 for price in book.prices)
    assert book.node is None


def test_a_report_survives_the_wire_to_the_cent() -> None:
    seen = report()

    assert from_plain(to_plain(seen), CostReport) == seen


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('currency = "EUR"', "", "currency is missing"),
        ("input = 1.5", "", "prices.0.input is missing"),
        ("input = 1.5", "input = -1", "prices.0.input"),
        ("input = 1.5", "input = true", "prices.0.input"),
        ("input = 1.5", "input = nan", "prices.0.input"),
        ("input = 1.5", "input = 1.5\nimput = 2", "unknown key prices.0.imput"),
        ("seen_on = 2026-11-24", "seen_on = 2026-11-24T00:00:00Z", "prices.0.seen_on is not a date"),
        ("years = 5", "years = 0", "node.years is 0"),
        ("[node]", "[nodes]", "unknown key nodes"),
        ("[[prices]]", "prices = [1]\n[[x]]", "unknown key x"),
        ("input = 1.5", "input = ", "does not parse"),
    ],
)
def test_a_mistake_in_a_price_book_is_named(before: str, after: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        price_book(BOOK.replace(before, after, 1), where="/etc/leeward/prices.toml")

    assert said in caught.value.detail
    assert "/etc/leeward/prices.toml" in caught.value.detail
