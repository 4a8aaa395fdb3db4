"""The tables of `leeward.db` as SQLAlchemy Core sees them; the migrations make them.

Times are RFC 3339 text in UTC, JSON is text. `event`, `audit_entry`, `license_terms` and
`attestation` are append-only: triggers abort UPDATE and DELETE.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import TEXT, Column, ForeignKey, Index, Integer, MetaData, Table, UniqueConstraint, text

metadata = MetaData()

operation = Table(
    "operation",
    metadata,
    Column("id", TEXT, primary_key=True, nullable=False),
    Column("kind", TEXT, nullable=False),
    Column("parameters", TEXT, nullable=False),
    Column("actor_name", TEXT, nullable=False),
    Column("actor_uid", Integer),
    Column("created_at", TEXT, nullable=False),
    Column("ended", Integer, nullable=False, server_default=text("0")),
    sqlite_strict=True,
)
Index("one_unfinished_operation", operation.c.ended, unique=True, sqlite_where=text("ended = 0"))

event = Table(
    "event",
    metadata,
    Column("operation_id", TEXT, ForeignKey("operation.id"), primary_key=True, nullable=False),
    Column("seq", Integer, primary_key=True, nullable=False),
    Column("at", TEXT, nullable=False),
    Column("body", TEXT, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("seq", Integer, primary_key=True, nullable=False),
    Column("at", TEXT, nullable=False),
    Column("actor", TEXT, nullable=False),
    Column("action", TEXT, nullable=False),
    Column("object", TEXT, nullable=False),
    Column("outcome", TEXT, nullable=False),
    Column("details", TEXT, nullable=False),
    Column("previous_hash", TEXT, nullable=False),
    Column("entry_hash", TEXT, nullable=False),
    sqlite_strict=True,
)

license_terms = Table(
    "license_terms",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("spdx_id", TEXT, nullable=False),
    Column("applies_to", TEXT, nullable=False),
    Column("text_sha256", TEXT, nullable=False),
    Column("threshold_usd_monthly", Integer),
    Column("release", TEXT, nullable=False),
    UniqueConstraint("spdx_id", "applies_to", "text_sha256", "release"),
    sqlite_strict=True,
)

attestation = Table(
    "attestation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("use_month", TEXT, nullable=False),
    Column("band", TEXT, nullable=False),
    Column("legal_entity", TEXT, nullable=False),
    Column("signatory", TEXT, nullable=False),
    Column("role", TEXT, nullable=False),
    Column("made_at", TEXT, nullable=False),
    Column("recorded_by", TEXT, nullable=False),
    UniqueConstraint("use_month", "band", "legal_entity", "signatory", "role", "made_at", "recorded_by"),
    sqlite_strict=True,
)


def to_text(at: datetime) -> str:
    """Write a time as RFC 3339 in UTC; raises ValueError for a time without a zone."""
    if at.tzinfo is None:
        raise ValueError("a stored time needs a zone")
    return at.astimezone(UTC).isoformat()


def from_text(stored: str) -> datetime:
    """Read a time that `to_text` wrote."""
    return datetime.fromisoformat(stored)
