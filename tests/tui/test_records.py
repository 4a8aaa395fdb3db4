"""Records as lines, without a terminal: months, short figures, what is old."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.domain.costs import CostReport
from appliance.domain.errors import LedgerUnavailable
from appliance.domain.usage_report import UsageDimension
from console.capabilities import Capabilities, Profile
from console.reading import Reading
from console.render import compliance, listing, passports, tenants, text, usage
from console.render.frame import Frame
from console.screens.base import ConsoleScreen
from console.screens.compliance import ComplianceScreen
from console.screens.passports import PassportsScreen
from console.screens.tenants import TenantsScreen
from console.screens.usage import UsageScreen
from tests.tui import records
from tests.tui.recorded import NOW

FRAME = Frame(width=80, now=NOW, capabilities=Capabilities(profile=Profile.SERIAL))
STALE = replace(FRAME, stale=True)
NO_COSTS = CostReport(currency="USD", lines=(), prices=(), node_per_month=None)


def month(since: datetime) -> usage.MonthOfUse:
    sums = {UsageDimension.DAY: (), UsageDimension.TEAM: (), UsageDimension.MODEL: ()}
    return usage.MonthOfUse(since=since, until=usage.next_month(since), sums=sums, costs=NO_COSTS)


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0"), (999, "999"), (1_000, "1.00k"), (12_345, "12.3k"), (999_499, "999k"), (999_500, "1.00M"),
     (88_000_000, "88.0M"), (10**15, "1000T")],
)  # fmt: skip
def test_counts_keep_three_figures(count: int, written: str) -> None:
    assert text.short(count) == written


@pytest.mark.parametrize(("year", "number", "days"), [(2026, 2, 28), (2024, 2, 29), (2025, 12, 31), (2026, 10, 31)])
def test_a_past_month_has_all_its_days_and_the_present_one_those_that_have_begun(
    year: int, number: int, days: int
) -> None:
    past = usage.table(month(datetime(year, number, 1, tzinfo=UTC)), UsageDimension.DAY, FRAME)
    present = usage.table(month(usage.month_start(NOW)), UsageDimension.DAY, FRAME)

    assert [line.key for line in past.lines][-1] == f"{year}-{number:02}-01"
    assert len(past.lines) == days
    assert present.lines[0].key == f"{NOW:%Y-%m-%d}"
    assert len(present.lines) == NOW.day


def test_an_empty_month_has_bars_of_nothing_and_no_worth_that_is_guessed() -> None:
    lines = [line.plain for line in usage.totals(month(usage.month_start(NOW)), FRAME)]

    assert "Requests 0: 0 settled, 0 partial, 0 abandoned, 0 unsettled" in lines
    assert any("0.00 USD at list prices" in line and "at least" not in line for line in lines)
    assert any("unknown; give [node]" in line for line in lines)


def test_old_lists_say_their_age_and_every_state_is_unknown() -> None:
    error = LedgerUnavailable(detail="gone", remedy="Run `leeward provision`.")
    fresh: Reading[object] = Reading()
    reading = fresh.seen(object(), NOW - timedelta(seconds=90)).failed(error)
    seen = tenants.Tenants(teams=(), keys=tuple(records.keys(NOW)), quotas=tuple(records.quotas(NOW)))
    hardened = compliance.Compliance(findings=records.findings(), egress=records.egress(NOW))

    assert reading.is_stale(NOW, 3_600)
    assert listing.banner(reading, STALE)[0].plain.startswith("WARN  No new data for 90 s (last 22:12:33Z)")
    tables = (
        tenants.table(seen, STALE),
        compliance.table(hardened, STALE),
        passports.table(records.passports(NOW), (), STALE),
    )
    drawn = [listing.draw_line(line, STALE).plain for table in tables for line in table.lines if line.state]
    assert len(drawn) > 50
    assert all(line.startswith(" ?? ") for line in drawn)
    assert all(line.plain.startswith(" ?? ") for line in compliance.summary(hardened, STALE))


def test_a_try_that_failed_before_any_answer_is_an_error_and_no_empty_list() -> None:
    nothing: Reading[object] = Reading()
    reading = nothing.failed(LedgerUnavailable(detail="gone", remedy="Run `leeward provision`."))

    lines = [line.plain for line in listing.banner(reading, FRAME)]

    assert not reading.is_stale(NOW, 0)
    assert lines[0].startswith("FAIL")
    assert "Remedy   Run `leeward provision`." in lines


@pytest.mark.parametrize("screen", [UsageScreen, TenantsScreen, PassportsScreen, ComplianceScreen])
def test_the_notes_of_a_help_page_fit_80_columns(screen: type[ConsoleScreen]) -> None:
    assert screen.HELP_LINES
    assert all(len(line) <= 75 for line in screen.HELP_LINES)
