"""The one writer of usage records.

A thread takes everything that is queued, writes it in one transaction, and tells each caller when
that is on disk: under load, commits group by themselves, and nobody waits for company. An
admission that cannot be written fails, and the request with it. A settlement that cannot be
written stays in the queue and is tried again: the tokens are spent, so the record must come.

The write-ahead log is grown once, at the start, and never shrinks while the gateway runs: on a
full disk, settlements still fit into it. `has_room` says when to stop admitting before that.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from sqlalchemy import BindParameter, Connection, Engine, bindparam, insert, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import StaticPool

from appliance.adapters.sql_ledger.database import open_ledger
from appliance.adapters.sql_ledger.schema import to_microseconds, usage_record
from appliance.domain.errors import LedgerUnavailable
from appliance.domain.usage import Admission, Progress, Settlement, UsageOutcome, UsageSource, UsageState

_BATCH = 1_000
_RETRY_S = 0.2
_WAL_BYTES = 8 * 1024 * 1024
_ROOM_CHECK_S = 1.0

_ADMIT = insert(usage_record)
_OPEN_ROW = (usage_record.c.request_id == bindparam("of")) & (usage_record.c.state == UsageState.ADMITTED.value)
_COUNTS: dict[str, BindParameter[Any]] = {
    column: bindparam(column)
    for column in (
        "first_token_at_us",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "usage_source",
    )
}
_PROGRESS = update(usage_record).where(_OPEN_ROW).values(**_COUNTS)
_END: dict[str, BindParameter[Any]] = {
    column: bindparam(column) for column in ("state", "settled_at_us", "http_status", "outcome", "finish_reason")
}
_SETTLE = update(usage_record).where(_OPEN_ROW).values(**_COUNTS, **_END)

_Entry = Admission | Settlement | tuple[Progress, ...]


class LedgerWriter:
    """Writes admissions, running counts and settlements; durable when their future is done.

    Only one may be open on a ledger: a lock file beside it sees to that, so that records that an
    earlier gateway left open are abandoned for good reason. Methods are thread-safe.
    """

    def __init__(
        self,
        path: Path,
        *,
        boot_id: str,
        reserve_bytes: int = 64 * 1024 * 1024,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._path = path
        self._boot_id = boot_id
        self._reserve_bytes = reserve_bytes
        self._now = now or (lambda: datetime.now(UTC))
        self._queue: SimpleQueue[tuple[_Entry, Future[None]] | None] = SimpleQueue()
        self._room_until = 0.0
        self._ended = False
        self._lock = _lock(path)
        try:
            self._engine = open_ledger(path, poolclass=StaticPool)
        except LedgerUnavailable:
            os.close(self._lock)
            raise
        self._thread = Thread(target=self._run, name="ledger-writer", daemon=True)

    def open(self) -> int:
        """Abandon what earlier gateways left open, grow the log, start; returns how many were abandoned.

        Raises LedgerUnavailable.
        """
        abandon = (
            update(usage_record)
            .where(usage_record.c.state == UsageState.ADMITTED.value, usage_record.c.boot_id != self._boot_id)
            .values(
                state=UsageState.ABANDONED.value,
                settled_at_us=to_microseconds(self._now()),
                outcome=UsageOutcome.GATEWAY_KILLED.value,
            )
        )
        try:
            _grow_log(self._engine)
            with self._engine.begin() as connection:
                abandoned = connection.execute(abandon).rowcount
        except DBAPIError as problem:
            raise _unavailable(self._path, problem) from problem
        self._thread.start()
        return abandoned

    def admit(self, admission: Admission) -> Future[None]:
        """Write a request down; the future raises LedgerUnavailable if that failed."""
        return self._put(admission)

    def progress(self, running: Sequence[Progress]) -> Future[None]:
        """Write running counts of unfinished requests, at most once a second; may be lost."""
        return self._put(tuple(running))

    def settle(self, settlement: Settlement) -> Future[None]:
        """Close a record, unless it is closed; tried again until it is durable or the writer closes."""
        return self._put(settlement)

    def has_room(self) -> bool:
        """Whether more can be admitted: the disk has more free space than the reserve, as of the last second."""
        now = time.monotonic()
        if self._ended:
            return False
        if now < self._room_until:
            return True
        free = os.statvfs(self._path.parent)
        if free.f_bavail * free.f_frsize < self._reserve_bytes:
            return False
        self._room_until = now + _ROOM_CHECK_S
        return True

    def close(self) -> None:
        """Write what is queued and stop. Idempotent."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._engine.dispose()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _put(self, entry: _Entry) -> Future[None]:
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what is queued is written, also if nobody waits any more
        self._queue.put((entry, future))
        if self._ended:
            self._refuse_queued()
        return future

    def _refuse_queued(self) -> None:
        """Tell whoever still asks that nothing is written any more."""
        while True:
            try:
                item = self._queue.get(block=False)
            except Empty:
                return
            if item is not None:
                item[1].set_exception(_unavailable(self._path, "the ledger's writer has ended"))

    def _run(self) -> None:
        try:
            self._write_until_closed()
        finally:
            self._ended = True
            self._refuse_queued()

    def _write_until_closed(self) -> None:
        waiting: list[tuple[_Entry, Future[None]]] = []
        closing = False
        while not closing:
            batch, closing = self._take(block=not waiting)
            waiting = self._write(waiting + batch)
            if waiting and not closing:
                time.sleep(_RETRY_S)
        for _, future in waiting:
            future.set_exception(_unavailable(self._path, "the gateway stopped before the disk had room again"))

    def _take(self, *, block: bool) -> tuple[list[tuple[_Entry, Future[None]]], bool]:
        batch: list[tuple[_Entry, Future[None]]] = []
        while len(batch) < _BATCH:
            try:
                item = self._queue.get(block=block and not batch)
            except Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _write(self, batch: list[tuple[_Entry, Future[None]]]) -> list[tuple[_Entry, Future[None]]]:
        """Write a batch in one transaction; returns the settlements to try again."""
        refused: dict[int, IntegrityError] = {}
        try:
            with self._engine.begin() as connection:
                for index, (entry, _) in enumerate(batch):
                    try:
                        self._execute(connection, entry)
                    except IntegrityError as problem:  # this statement alone is undone; the others stand
                        refused[index] = problem
        except DBAPIError as problem:
            for entry, future in batch:
                if not isinstance(entry, Settlement):
                    future.set_exception(_unavailable(self._path, problem))
            return [item for item in batch if isinstance(item[0], Settlement)]
        for index, (_, future) in enumerate(batch):
            if index in refused:
                future.set_exception(_unavailable(self._path, refused[index]))
            else:
                future.set_result(None)
        return []

    def _execute(self, connection: Connection, entry: _Entry) -> None:
        if isinstance(entry, Admission):
            connection.execute(_ADMIT, _admission_row(entry, self._boot_id))
        elif isinstance(entry, Settlement):
            connection.execute(_SETTLE, _settlement_row(entry))
        elif entry:
            connection.execute(_PROGRESS, [_counts_row(progress) for progress in entry])


def _admission_row(admission: Admission, boot_id: str) -> dict[str, object]:
    return {
        "request_id": admission.request_id,
        "boot_id": boot_id,
        "state": UsageState.ADMITTED.value,
        "key_id": admission.key_id,
        "team": admission.team,
        "model": admission.model,
        "endpoint": admission.endpoint,
        "stream": int(admission.stream),
        "admitted_at_us": to_microseconds(admission.admitted_at),
        "outcome": UsageOutcome.IN_FLIGHT.value,
        "usage_source": UsageSource.NONE.value,
    }


def _counts_row(counted: Progress | Settlement) -> dict[str, object]:
    return {
        "of": counted.request_id,
        "first_token_at_us": to_microseconds(counted.first_token_at),
        "prompt_tokens": counted.usage.prompt_tokens,
        "completion_tokens": counted.usage.completion_tokens,
        "cached_tokens": counted.usage.cached_tokens,
        "reasoning_tokens": counted.usage.reasoning_tokens,
        "usage_source": counted.usage_source.value,
    }


def _settlement_row(settlement: Settlement) -> dict[str, object]:
    return _counts_row(settlement) | {
        "state": settlement.state.value,
        "settled_at_us": to_microseconds(settlement.settled_at),
        "http_status": settlement.http_status,
        "outcome": settlement.outcome.value,
        "finish_reason": settlement.finish_reason,
    }


def _lock(path: Path) -> int:
    lock_path = path.with_name(f"{path.name}.writer")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as problem:
        raise _unavailable(path, problem) from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        os.close(descriptor)
        raise LedgerUnavailable(
            detail=f"Another gateway writes to {path}.",
            remedy="Stop it first: systemctl stop leeward-gateway.",
        ) from problem
    return descriptor


def _grow_log(engine: Engine) -> None:
    """Make the write-ahead log's file as long as a busy hour needs, with real blocks.

    A transaction bigger than the page cache spills into the log before it commits; rolled back,
    it leaves the log's length and nothing in the database.
    """
    with engine.connect() as connection:
        cache_size = connection.execute(text("PRAGMA cache_size")).scalar_one()
        connection.rollback()
        connection.execute(text("PRAGMA cache_size = 16"))
        connection.execute(text("CREATE TABLE room (bytes BLOB)"))
        connection.execute(text("INSERT INTO room VALUES (zeroblob(:bytes))"), {"bytes": _WAL_BYTES})
        connection.rollback()
        connection.execute(text(f"PRAGMA cache_size = {int(cache_size)}"))
        connection.rollback()


def _unavailable(path: Path, problem: object) -> LedgerUnavailable:
    reason = problem.orig if isinstance(problem, DBAPIError) else problem
    return LedgerUnavailable(
        detail=f"{path} could not be written: {reason}",
        remedy="Free space on the ledger's disk and check its owner; waiting settlements follow by themselves.",
    )
