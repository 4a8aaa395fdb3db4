"""The audit log in `leeward.db`: one row per act, linked to the one before by its hash."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Row, func, insert, select

from appliance.adapters.sql.database import Database
from appliance.adapters.sql.tables import audit_entry, from_text, to_text
from appliance.domain.audit import GENESIS, AuditEntry, link
from appliance.ports import Clock

_NEWEST = select(audit_entry).order_by(audit_entry.c.seq.desc()).limit(1)


class SqlAuditLog:
    """`appliance.ports.AuditLog` on SQLite; the order of commits is the order of entries."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def append(self, *, actor: str, action: str, object_: str, outcome: str, details: Mapping[str, str]) -> AuditEntry:
        """Append one entry, durable when this returns."""
        with self._database.write() as connection:
            newest = connection.execute(_NEWEST).first()
            entry = link(
                seq=1 if newest is None else newest.seq + 1,
                at=self._clock.now(),
                actor=actor,
                action=action,
                object_=object_,
                outcome=outcome,
                details=dict(details),
                previous_hash=GENESIS if newest is None else newest.entry_hash,
            )
            connection.execute(insert(audit_entry).values(_row(entry)))
        return entry

    def entries(self, after: int = 0, limit: int = 1_000) -> list[AuditEntry]:
        """Return up to `limit` entries after `after`, oldest first."""
        wanted = select(audit_entry).where(audit_entry.c.seq > after).order_by(audit_entry.c.seq).limit(limit)
        with self._database.read() as connection:
            return [_entry(row) for row in connection.execute(wanted)]

    def head(self) -> AuditEntry | None:
        """Return the newest entry."""
        with self._database.read() as connection:
            row = connection.execute(_NEWEST).first()
        return None if row is None else _entry(row)

    def count(self) -> int:
        """Return the number of entries."""
        with self._database.read() as connection:
            return connection.scalar(select(func.count()).select_from(audit_entry)) or 0


def _row(entry: AuditEntry) -> dict[str, object]:
    return {
        "seq": entry.seq,
        "at": to_text(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "outcome": entry.outcome,
        "details": json.dumps(entry.details, sort_keys=True),
        "previous_hash": entry.previous_hash,
        "entry_hash": entry.entry_hash,
    }


def _entry(row: Row[tuple[object, ...]]) -> AuditEntry:
    return AuditEntry(
        seq=row.seq,
        at=from_text(row.at),
        actor=row.actor,
        action=row.action,
        object=row.object,
        outcome=row.outcome,
        details=json.loads(row.details),
        previous_hash=row.previous_hash,
        entry_hash=row.entry_hash,
    )
