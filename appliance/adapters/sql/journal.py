"""Operations and their events in `leeward.db`.

An operation's row carries one derived bit, `ended`, set in the same transaction as the event that
ends it; a unique index over the rows that have not ended keeps it at one unfinished operation, also
between two processes.
"""

from __future__ import annotations

import json
from datetime import datetime

from cattrs import BaseValidationError
from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from appliance.adapters.sql.database import Database
from appliance.adapters.sql.tables import event as event_table
from appliance.adapters.sql.tables import from_text, operation, to_text
from appliance.domain.errors import NotFound, OperationConflict, StateUnusable
from appliance.domain.events import Event, EventRecord, OperationCanceled, OperationFailed, OperationSucceeded
from appliance.domain.operation import Actor, OperationId, OperationKind, OperationRequest
from appliance.domain.wire import event_from_plain, event_to_plain

_ENDINGS = (OperationSucceeded, OperationFailed, OperationCanceled)
Found = tuple[OperationId, OperationRequest, Actor]


class SqlJournal:
    """`appliance.ports.Journal` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, operation_id: OperationId, request: OperationRequest, actor: Actor, at: datetime) -> None:
        """Store an operation before its first event; raises OperationConflict while another is unfinished."""
        row = {
            "id": operation_id,
            "kind": request.kind.value,
            "parameters": json.dumps(request.parameters, sort_keys=True),
            "actor_name": actor.name,
            "actor_uid": actor.uid,
            "created_at": to_text(at),
        }
        try:
            with self._database.write() as connection:
                connection.execute(insert(operation).values(row))
        except IntegrityError as error:
            raise OperationConflict(
                detail="An operation that has not ended is in the journal.",
                remedy="Follow it with `leeward follow`, or stop it with `leeward cancel`; then start again.",
            ) from error

    def append(self, operation_id: OperationId, event: Event, at: datetime) -> EventRecord:
        """Store an event under the next sequence number; raises NotFound for an unknown operation."""
        body = json.dumps(event_to_plain(event), separators=(",", ":"))
        last = select(func.max(event_table.c.seq)).where(event_table.c.operation_id == operation_id)
        try:
            with self._database.write() as connection:
                seq = (connection.scalar(last) or 0) + 1
                row = {"operation_id": operation_id, "seq": seq, "at": to_text(at), "body": body}
                connection.execute(insert(event_table).values(row))
                if isinstance(event, _ENDINGS):
                    connection.execute(update(operation).where(operation.c.id == operation_id).values(ended=1))
        except IntegrityError as error:
            raise NotFound(
                detail=f"There is no operation {operation_id}.", remedy="List them with `leeward operations`."
            ) from error
        return EventRecord(operation_id=operation_id, seq=seq, at=at, event=event)

    def records(self, operation_id: OperationId, after: int = 0, limit: int = 10_000) -> list[EventRecord]:
        """Return up to `limit` records after `after`, oldest first."""
        wanted = (
            select(event_table)
            .where(event_table.c.operation_id == operation_id, event_table.c.seq > after)
            .order_by(event_table.c.seq)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(wanted)]

    def operations(self, limit: int = 100) -> list[Found]:
        """Return the operations, newest first."""
        wanted = select(operation).order_by(operation.c.created_at.desc(), operation.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_found(row) for row in connection.execute(wanted)]

    def unfinished(self) -> Found | None:
        """Return the operation that has not ended."""
        with self._database.read() as connection:
            row = connection.execute(select(operation).where(operation.c.ended == 0)).first()
        return None if row is None else _found(row)


def _record(row: Row[tuple[object, ...]]) -> EventRecord:
    """Read a row; raises StateUnusable for an event that this appliance does not know."""
    try:
        event = event_from_plain(json.loads(row.body))
    except (BaseValidationError, KeyError, ValueError) as error:
        raise StateUnusable(
            detail=f"event {row.seq} of operation {row.operation_id} cannot be read: {row.body[:200]}",
            remedy="Start the newer appliance that wrote it.",
        ) from error
    return EventRecord(
        operation_id=OperationId(row.operation_id),
        seq=row.seq,
        at=from_text(row.at),
        event=event,
    )


def _found(row: Row[tuple[object, ...]]) -> Found:
    request = OperationRequest(kind=OperationKind(row.kind), parameters=json.loads(row.parameters))
    return OperationId(row.id), request, Actor(name=row.actor_name, uid=row.actor_uid)
