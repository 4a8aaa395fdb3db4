"""Requests that carried an Idempotency-Key, found again by its code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError

from appliance.adapters.sql_ledger.schema import to_microseconds, usage_record
from appliance.domain.errors import LedgerUnavailable
from appliance.domain.usage import UsageOutcome, UsageState


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRequest:
    """What the ledger knows of the newest request with the same Idempotency-Key."""

    request_id: str
    body_mac: str
    state: UsageState
    outcome: UsageOutcome
    prompt_tokens: int | None
    completion_tokens: int | None


class SqlRepeats:
    """Looks for earlier requests. It is asked only for requests that carry the header."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(ledger_read=True)

    def newest(self, idempotency_mac: str, *, since: datetime) -> EarlierRequest | None:
        """Return the newest request with this code that was admitted since a time. Raises LedgerUnavailable."""
        columns = usage_record.c
        query = (
            select(usage_record)
            .where(columns.idempotency_mac == idempotency_mac, columns.admitted_at_us >= to_microseconds(since))
            .order_by(columns.seq.desc())
            .limit(1)
        )
        try:
            with self._engine.connect() as connection:
                row = connection.execute(query).one_or_none()
        except DBAPIError as problem:
            raise LedgerUnavailable(
                detail=f"Earlier requests could not be read: {problem.orig}",
                remedy="Check the ledger's disk and owner, then restart leeward-gateway.",
            ) from problem
        if row is None:
            return None
        return EarlierRequest(
            request_id=row.request_id,
            body_mac=row.body_mac,
            state=UsageState(row.state),
            outcome=UsageOutcome(row.outcome),
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
        )
