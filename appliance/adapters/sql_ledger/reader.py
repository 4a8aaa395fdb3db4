"""The ledger, read: `ports.UsageReader`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, Row, func, select

from appliance.adapters.sql_ledger.schema import from_microseconds, usage_record
from appliance.domain.usage import TokenUsage, UsageRecord, UsageSource, UsageState


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
        ),
        usage_source=UsageSource(row.usage_source),
    )
