"""The one writer of usage records.

A thread takes everything that is queued, writes it in one transaction, and tells each caller when
that is on disk. Commits group by themselves: a record that comes alone waits for no company, and
after a batch the writer gathers for two milliseconds, so that a busy node pays for few commits. An
admission that cannot be written fails, and the request with it. A settlement that cannot be
written stays in the queue and is tried again: the tokens are spent, so the record must come.

The write-ahead log is grown once, at the start, and never shrinks while the gateway runs: on a
full disk, settlements still fit into it. `has_room` says when to stop admitting before that.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol

from sqlalchemy import BindParameter, ClauseElement, bindparam, insert, update
from sqlalchemy.dialects import sqlite

from appliance.adapters.sql_ledger.database import connect_ledger
from appliance.adapters.sql_ledger.schema import to_microseconds, usage_record
from appliance.domain.errors import LedgerUnavailable
from appliance.domain.usage import Admission, Progress, Settlement, UsageOutcome, UsageSource, UsageState

_BATCH = 1_000
_RETRY_S = 0.2
_BUSY = 3
_GATHER_S = 0.002
_WAL_BYTES = 8 * 1024 * 1024
_ROOM_CHECK_S = 1.0

_QMARK = sqlite.dialect(paramstyle="qmark")


class _Statement:
    """A statement, put together once: for each row it would cost ten times what the row does.

    Parameters go by position, which SQLite binds a third faster than by name.
    """

    def __init__(self, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=_QMARK)
        self.sql = str(compiled)
        self.values = itemgetter(*getattr(compiled, "positiontup"))  # noqa: B009  the dialect's own, which ClauseElement does not declare


_OPEN_ROW = (usage_record.c.request_id == bindparam("of")) & (usage_record.c.state == bindparam("open"))
_COUNTS: dict[str, BindParameter[Any]] = {
    column: bindparam(column)
    for column in (
        "first_token_at_us",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "image_tokens",
        "usage_source",
    )
}
_ADMIT_COLUMNS = (
    "request_id", "boot_id", "state", "key_id", "team", "model", "endpoint", "stream", "admitted_at_us", "outcome",
    "usage_source", "idempotency_mac", "body_mac", "caller_request_id",
)  # fmt: skip
_ADMIT = _Statement(insert(usage_record).values({column: bindparam(column) for column in _ADMIT_COLUMNS}))
_PROGRESS = _Statement(update(usage_record).where(_OPEN_ROW).values(**_COUNTS))
_END: dict[str, BindParameter[Any]] = {
    column: bindparam(column)
    for column in ("state", "settled_at_us", "http_status", "outcome", "finish_reason", "charged_tokens")
}
_SETTLE = _Statement(update(usage_record).where(_OPEN_ROW).values(**_COUNTS, **_END))
_ABANDON = _Statement(
    update(usage_record)
    .where(usage_record.c.state == bindparam("open"), usage_record.c.boot_id != bindparam("boot"))
    .values(state=bindparam("to"), settled_at_us=bindparam("at_us"), outcome=bindparam("why"))
)

Entry = Admission | Settlement | tuple[Progress, ...]


class Ticket(Protocol):
    """What is told when an entry is durable, or that it failed. A future of either kind is one."""

    def set_result(self, result: None, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


Told = Sequence[tuple[Ticket, LedgerUnavailable | None]]
_Item = tuple[Entry, Ticket]


def tell(told: Told) -> None:
    """Resolve tickets."""
    for ticket, problem in told:
        if problem is None:
            ticket.set_result(None)
        else:
            ticket.set_exception(problem)


class LedgerWriter:
    """Writes admissions, running counts and settlements; durable when their future is done.

    Only one may be open on a ledger: a lock file beside it sees to that, so that records that an
    earlier gateway left open are abandoned for good reason. Methods are thread-safe. `tell` resolves
    a batch's tickets, in the writer's thread; who needs them resolved elsewhere sets another before `open`.
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
        self.tell: Callable[[Told], None] = tell
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._room_until = 0.0
        self._held = 0
        self._ended = False
        self._lock = _lock(path)
        try:
            self._connection = connect_ledger(path)
        except LedgerUnavailable:
            os.close(self._lock)
            raise
        self._thread = Thread(target=self._run, name="ledger-writer", daemon=True)

    def open(self) -> int:
        """Abandon what earlier gateways left open, grow the log, start; returns how many were abandoned.

        Raises LedgerUnavailable.
        """
        abandon = {
            "open": UsageState.ADMITTED.value,
            "boot": self._boot_id,
            "to": UsageState.ABANDONED.value,
            "at_us": to_microseconds(self._now()),
            "why": UsageOutcome.GATEWAY_KILLED.value,
        }
        try:
            _grow_log(self._connection)
            abandoned = self._connection.execute(_ABANDON.sql, _ABANDON.values(abandon)).rowcount
        except sqlite3.Error as problem:
            raise _unavailable(self._path, problem) from problem
        self._thread.start()
        return abandoned

    def admit(self, admission: Admission) -> Future[None]:
        """Write a request down; the future raises LedgerUnavailable if that failed."""
        return self._promise(admission)

    def progress(self, running: Sequence[Progress]) -> Future[None]:
        """Write running counts of unfinished requests, at most once a second; may be lost."""
        return self._promise(tuple(running))

    def settle(self, settlement: Settlement) -> Future[None]:
        """Close a record, unless it is closed; tried again until it is durable or the writer closes."""
        return self._promise(settlement)

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

    @property
    def backlog(self) -> int:
        """How many entries are queued, those that the disk has refused so far among them; about."""
        return self._queue.qsize() + self._held

    def close(self) -> None:
        """Write what is queued and stop. Idempotent."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def put(self, entry: Entry, ticket: Ticket) -> None:
        """Write an entry as `admit`, `progress` and `settle` do, and tell `ticket`."""
        self._queue.put((entry, ticket))
        if self._ended:
            self._refuse_queued()

    def _promise(self, entry: Entry) -> Future[None]:
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # what is queued is written, also if nobody waits any more
        self.put(entry, future)
        return future

    def _refuse_queued(self) -> None:
        """Tell whoever still asks that nothing is written any more."""
        while True:
            try:
                item = self._queue.get(block=False)
            except Empty:
                return
            if item is not None:
                self._refuse([item], "the ledger's writer has ended")

    def _refuse(self, items: Iterable[_Item], reason: object) -> None:
        problem = _unavailable(self._path, reason)
        if told := [(ticket, problem) for _, ticket in items]:
            self.tell(told)

    def _run(self) -> None:
        try:
            self._write_until_closed()
        finally:
            self._ended = True
            self._refuse_queued()

    def _write_until_closed(self) -> None:
        waiting: list[_Item] = []
        closing = False
        busy = False
        while not closing:
            if busy:
                time.sleep(_GATHER_S)
            batch, closing = self._take(block=not waiting)
            busy = len(batch) >= _BUSY
            waiting = self._write(waiting + batch)
            self._held = len(waiting)
            if waiting and not closing:
                time.sleep(_RETRY_S)
        self._refuse(waiting, "the gateway stopped before the disk had room again")

    def _take(self, *, block: bool) -> tuple[list[_Item], bool]:
        batch: list[_Item] = []
        while len(batch) < _BATCH:
            try:
                item = self._queue.get(block=block and not batch)
            except Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _write(self, batch: list[_Item]) -> list[_Item]:
        """Write a batch in one transaction; returns the settlements to try again."""
        told: list[tuple[Ticket, LedgerUnavailable | None]] = []
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for entry, ticket in batch:
                problem = None
                try:
                    self._execute(entry)
                except sqlite3.IntegrityError as refused:  # this statement alone is undone; the others stand
                    problem = _unavailable(self._path, refused)
                told.append((ticket, problem))
            connection.execute("COMMIT")
        except sqlite3.Error as problem:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._refuse([item for item in batch if not isinstance(item[0], Settlement)], problem)
            return [item for item in batch if isinstance(item[0], Settlement)]
        self.tell(told)
        return []

    def _execute(self, entry: Entry) -> None:
        if isinstance(entry, Admission):
            self._connection.execute(_ADMIT.sql, _ADMIT.values(_admission_row(entry, self._boot_id)))
        elif isinstance(entry, Settlement):
            self._connection.execute(_SETTLE.sql, _SETTLE.values(_settlement_row(entry)))
        else:
            self._connection.executemany(_PROGRESS.sql, [_PROGRESS.values(_counts_row(progress)) for progress in entry])


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
        "idempotency_mac": admission.idempotency_mac,
        "body_mac": admission.body_mac,
        "caller_request_id": admission.caller_request_id,
    }


def _counts_row(counted: Progress | Settlement) -> dict[str, object]:
    return {
        "of": counted.request_id,
        "open": UsageState.ADMITTED.value,
        "first_token_at_us": to_microseconds(counted.first_token_at),
        "prompt_tokens": counted.usage.prompt_tokens,
        "completion_tokens": counted.usage.completion_tokens,
        "cached_tokens": counted.usage.cached_tokens,
        "reasoning_tokens": counted.usage.reasoning_tokens,
        "image_tokens": counted.usage.image_tokens,
        "usage_source": counted.usage_source.value,
    }


def _settlement_row(settlement: Settlement) -> dict[str, object]:
    return _counts_row(settlement) | {
        "state": settlement.state.value,
        "settled_at_us": to_microseconds(settlement.settled_at),
        "http_status": settlement.http_status,
        "outcome": settlement.outcome.value,
        "finish_reason": settlement.finish_reason,
        "charged_tokens": settlement.charged_tokens,
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


def _grow_log(connection: sqlite3.Connection) -> None:
    """Make the write-ahead log's file as long as a busy hour needs, with real blocks.

    A transaction bigger than the page cache spills into the log before it commits; rolled back,
    it leaves the log's length and nothing in the database.
    """
    (cache_size,) = connection.execute("PRAGMA cache_size").fetchone()
    connection.execute("PRAGMA cache_size = 16")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE room (bytes BLOB)")
        connection.execute("INSERT INTO room VALUES (zeroblob(?))", (_WAL_BYTES,))
    finally:
        connection.execute("ROLLBACK")
        connection.execute(f"PRAGMA cache_size = {int(cache_size)}")


def _unavailable(path: Path, problem: object) -> LedgerUnavailable:
    return LedgerUnavailable(
        detail=f"{path} could not be written: {problem}",
        remedy="Free space on the ledger's disk and check its owner; waiting settlements follow by themselves.",
    )
