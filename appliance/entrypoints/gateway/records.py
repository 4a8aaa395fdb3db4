"""The ledger's writer as the event loop sees it: one wake-up for all that a commit made durable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from appliance.adapters.sql_ledger import LedgerWriter
from appliance.adapters.sql_ledger.writer import Entry, Told
from appliance.domain.usage import Admission, Progress, Settlement


class Records:
    """Admissions and settlements as futures of the running event loop; they raise LedgerUnavailable."""

    def __init__(self, writer: LedgerWriter) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        writer.tell = self._tell

    def admit(self, admission: Admission) -> asyncio.Future[None]:
        """Write a request down."""
        return self._put(admission)

    def settle(self, settlement: Settlement) -> asyncio.Future[None]:
        """Close a record, unless it is closed."""
        return self._put(settlement)

    def progress(self, running: Sequence[Progress]) -> None:
        """Write running counts; may be lost."""
        self._put(tuple(running)).add_done_callback(_look_at)

    def has_room(self) -> bool:
        """Whether more can be admitted."""
        return self._writer.has_room()

    def _put(self, entry: Entry) -> asyncio.Future[None]:
        ticket = self._loop.create_future()
        self._writer.put(entry, ticket)
        return ticket

    def _tell(self, told: Told) -> None:
        self._loop.call_soon_threadsafe(_resolve, told)


def _resolve(told: Told) -> None:
    for ticket, problem in told:
        if isinstance(ticket, asyncio.Future) and ticket.done():
            continue  # cancelled: whoever waited has gone, and the record is written all the same
        if problem is None:
            ticket.set_result(None)
        else:
            ticket.set_exception(problem)


def _look_at(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
