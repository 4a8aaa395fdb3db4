"""The ledger, read: `ports.UsageReader`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Row, func, literal_column, or_, select, text
from sqlalchemy.exc import DBAPIError

from appliance.adapters.sql_ledger.schema import from_microseconds, to_microseconds, usage_record
from appliance.domain.errors import LedgerUnavailable
from appliance.domain.usage import TokenUsage, UsageRecord, UsageSource, UsageState
from appliance.domain.usage_report import UsageDimension, UsageSum

_TOKENS: Final = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


class SqlUsageReader:
    """Reads usage records by row number; takes no write lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(ledger_read=True)

    def records(self, after: int = 0, limit: int = 1_000) -> list[tuple[int, UsageRecord]]:
        query = select(usage_record).where(usage_record.c.seq > after).order_by(usage_record.c.seq).limit(limit)
        with self._engine.connect() as connection:
            return [(row.seq, _record(row)) for row in connection.execute(query)]

    def counts(self) -> tuple[int, int]:
        everything = select(func.count()).select_from(usage_record)
        unsettled = everything.where(usage_record.c.state == "admitted")
        with self._engine.connect() as connection:
            return connection.execute(everything).scalar_one(), connection.execute(unsettled).scalar_one()

    def unsettled(self) -> int:
        """Count the open records, by their own index. Raises LedgerUnavailable."""
        is_open = usage_record.c.state == literal_column("'admitted'")  # a parameter would not meet the index
        query = select(func.count()).select_from(usage_record).where(is_open)
        try:
            with self._engine.connect() as connection:
                return connection.execute(query).scalar_one()
        except DBAPIError as problem:
            raise LedgerUnavailable(
                detail=f"Open records could not be counted: {problem}", remedy="Run `leeward health`."
            ) from problem

    def sums(
        self, by: tuple[UsageDimension, ...], *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[UsageSum, ...]:
        columns = usage_record.c
        groups = [_dimension(one).label(f"group_{place}") for place, one in enumerate(by)]
        states = [func.count().filter(columns.state == state).label(state) for state in UsageState]
        tokens = [func.coalesce(func.sum(columns[name]), 0).label(name) for name in _TOKENS]
        is_unknown = or_(columns.prompt_tokens.is_(None), columns.completion_tokens.is_(None))
        query = select(
            *groups,
            func.count().label("requests"),
            *states,
            *tokens,
            func.count().filter(is_unknown).label("requests_with_unknown_tokens"),
        )
        if since is not None:
            query = query.where(columns.admitted_at_us >= to_microseconds(since))
        if until is not None:
            query = query.where(columns.admitted_at_us < to_microseconds(until))
        places = [text(str(place)) for place in range(1, len(by) + 1)]
        with self._engine.connect() as connection:
            rows = connection.execute(query.group_by(*places).order_by(*places)).mappings()
            return tuple(_sum(dict(row), len(by)) for row in rows if row["requests"])


def _dimension(dimension: UsageDimension) -> ColumnElement[str]:
    columns = usage_record.c
    seconds = columns.admitted_at_us // 1_000_000
    known: dict[UsageDimension, ColumnElement[str]] = {
        UsageDimension.DAY: func.strftime("%Y-%m-%d", seconds, "unixepoch"),
        UsageDimension.MONTH: func.strftime("%Y-%m", seconds, "unixepoch"),
        UsageDimension.TEAM: columns.team,
        UsageDimension.KEY: columns.key_id,
        UsageDimension.MODEL: columns.model,
    }
    return known[dimension]


def _sum(row: dict[str, Any], groups: int) -> UsageSum:
    group = tuple(row.pop(f"group_{place}") for place in range(groups))
    return UsageSum(group=group, **row)


def _record(row: Row[Any]) -> UsageRecord:
    admitted_at = from_microseconds(row.admitted_at_us)
    assert admitted_at is not None  # noqa: S101  the column is NOT NULL
    return UsageRecord(
        request_id=row.request_id,
        state=UsageState(row.state),
        key_id=row.key_id,
        team=row.team,
        model=row.model,
        endpoint=row.endpoint,
        stream=bool(row.stream),
        admitted_at=admitted_at,
        first_token_at=from_microseconds(row.first_token_at_us),
        settled_at=from_microseconds(row.settled_at_us),
        http_status=row.http_status,
        outcome=row.outcome,
        finish_reason=row.finish_reason,
        usage=TokenUsage(
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            cached_tokens=row.cached_tokens,
            reasoning_tokens=row.reasoning_tokens,
            image_tokens=row.image_tokens,
        ),
        usage_source=UsageSource(row.usage_source),
        caller_request_id=row.caller_request_id,
    )
