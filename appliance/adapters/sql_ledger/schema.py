"""The ledger's tables, as SQLAlchemy Core sees them.

The migrations make them and, beside them, the triggers that keep history: here is only what
queries need. Times are microseconds since 1970 in UTC; a missing count is NULL, which is not zero.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, Integer, MetaData, Table, Text

metadata = MetaData()

api_key = Table(
    "api_key",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("secret_sha256", Text, nullable=False),
    Column("created_at_us", Integer, nullable=False),
    Column("revoked_at_us", Integer),
    Column("holder", Text),
    Column("holder_kind", Text),
    Column("expires_at_us", Integer),
    Column("models", Text, nullable=False),
    Column("networks", Text, nullable=False),
    Column("replaces", Text),
)

team = Table(
    "team",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("team", Text, nullable=False),
    Column("entity", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("set_at_us", Integer, nullable=False),
)

quota = Table(
    "quota",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", Integer),
    Column("set_at_us", Integer, nullable=False),
)

usage_record = Table(
    "usage_record",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("stream", Integer, nullable=False),
    Column("admitted_at_us", Integer, nullable=False),
    Column("first_token_at_us", Integer),
    Column("settled_at_us", Integer),
    Column("http_status", Integer),
    Column("outcome", Text, nullable=False),
    Column("finish_reason", Text),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("usage_source", Text, nullable=False),
    Column("charged_tokens", Integer),
    Column("idempotency_mac", Text),
    Column("body_mac", Text),
    Column("caller_request_id", Text),
    Column("image_tokens", Integer),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(at: datetime | None) -> int | None:
    """Turn a time into the integer that the ledger stores."""
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def from_microseconds(stored: int | None) -> datetime | None:
    """Turn the stored integer back into a time in UTC."""
    return None if stored is None else _EPOCH + stored * _MICROSECOND
