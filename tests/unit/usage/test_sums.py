"""Sums over a real ledger, by what is asked for, and nothing unknown taken for zero."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.adapters.sql_ledger import LedgerWriter, SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.domain.usage import (
    UNKNOWN_USAGE,
    Admission,
    Settlement,
    TokenUsage,
    UsageOutcome,
    UsageSource,
    UsageState,
)
from appliance.domain.usage_report import UsageDimension, UsageSum

OCTOBER = datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[SqlUsageReader]:
    path = tmp_path / "ledger.db"
    create_ledger(path, os.getuid(), os.getgid())
    engine = open_ledger(path)
    keys = {team: SqlKeyRegister(engine).create(name="n", team=team, at=OCTOBER)[0].key_id for team in "ab"}
    writer = LedgerWriter(path, boot_id="boot", reserve_bytes=0)
    writer.open()
    for number, (team, at, tokens) in enumerate(
        [
            ("a", OCTOBER, TokenUsage(prompt_tokens=10, completion_tokens=1, cached_tokens=4)),
            ("a", NOVEMBER, TokenUsage(prompt_tokens=20, completion_tokens=2)),
            ("b", NOVEMBER, UNKNOWN_USAGE),
            ("b", NOVEMBER, None),
        ]
    ):
        admission = Admission(
            request_id=f"{number:036}", key_id=keys[team], team=team, model="m", endpoint="chat", stream=False,
            admitted_at=at,
        )  # fmt: skip
        writer.admit(admission).result(10)
        if tokens is None:
            continue
        is_known = tokens is not UNKNOWN_USAGE
        settlement = Settlement(
            request_id=f"{number:036}",
            state=UsageState.SETTLED if is_known else UsageState.PARTIAL,
            settled_at=at,
            first_token_at=None,
            http_status=200,
            outcome=UsageOutcome.COMPLETED if is_known else UsageOutcome.CLIENT_CLOSED,
            finish_reason=None,
            usage=tokens,
            usage_source=UsageSource.FINAL if is_known else UsageSource.NONE,
        )
        writer.settle(settlement).result(10)
    writer.close()
    yield SqlUsageReader(engine)
    engine.dispose()


def groups(sums: tuple[UsageSum, ...]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    return {one.group: (one.requests, one.prompt_tokens, one.completion_tokens) for one in sums}


def test_months_end_at_midnight_utc_and_teams_are_apart(reader: SqlUsageReader) -> None:
    assert groups(reader.sums((UsageDimension.MONTH, UsageDimension.TEAM))) == {
        ("2026-10", "a"): (1, 10, 1),
        ("2026-11", "a"): (1, 20, 2),
        ("2026-11", "b"): (2, 0, 0),
    }


def test_what_is_unknown_and_what_is_open_is_counted_beside_the_tokens(reader: SqlUsageReader) -> None:
    (_, b) = reader.sums((UsageDimension.TEAM,))

    assert (b.requests, b.partial, b.admitted, b.settled, b.abandoned) == (2, 1, 1, 0, 0)
    assert b.requests_with_unknown_tokens == 2


def test_a_span_begins_with_its_first_instant_and_ends_before_its_last(reader: SqlUsageReader) -> None:
    assert groups(reader.sums((UsageDimension.DAY,), since=OCTOBER, until=NOVEMBER)) == {("2026-10-31",): (1, 10, 1)}
    assert groups(reader.sums((UsageDimension.DAY,), since=NOVEMBER)) == {("2026-11-01",): (3, 20, 2)}


def test_keys_and_models_are_groups_too_and_no_group_is_the_whole(reader: SqlUsageReader) -> None:
    assert len(reader.sums((UsageDimension.KEY,))) == 2
    assert groups(reader.sums((UsageDimension.MODEL,))) == {("m",): (4, 30, 3)}
    assert groups(reader.sums(())) == {(): (4, 30, 3)}


def test_a_span_without_requests_has_no_sums(reader: SqlUsageReader) -> None:
    assert reader.sums((UsageDimension.TEAM,), until=datetime(2020, 1, 1, tzinfo=UTC)) == ()
    assert reader.sums((), until=datetime(2020, 1, 1, tzinfo=UTC)) == ()
