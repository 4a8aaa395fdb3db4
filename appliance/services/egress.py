"""Egress: looks again and again at what tried to get out, and keeps it.

Each new destination is in the audit log before it is in the record, so that it leaves in the next
evidence export whatever happens to this node; a try costs one entry, however often it recurs. The
record is one small file, replaced as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from appliance.domain.egress import EgressReading, EgressRecord, EgressReport, alerts, begin, fold, report
from appliance.domain.health import Alert
from appliance.ports import AuditLog, Clock

log = structlog.get_logger()

INTERVAL_S: Final = 15.0


class EgressSource(Protocol):
    """Where tries are counted."""

    def read(self, cursor: str | None) -> EgressReading:
        """Look once. What cannot be read is named in the reading; raises nothing for it."""
        ...


class EgressStore(Protocol):
    """Where the record is kept."""

    def load(self) -> EgressRecord | None:
        """Return the record; `None` before the first look, or where the file is damaged and was set aside."""
        ...

    def save(self, record: EgressRecord) -> None:
        """Replace the record durably. Raises StateUnusable."""
        ...


class EgressWatch:
    """Counts tries to get out. Thread-safe; `start` looks in a thread of its own."""

    def __init__(
        self,
        *,
        source: EgressSource,
        store: EgressStore,
        audit: AuditLog,
        clock: Clock,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._source = source
        self._store = store
        self._audit = audit
        self._clock = clock
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._record: EgressRecord | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> EgressReport:
        """Look now. Raises StateUnusable where the record cannot be kept."""
        with self._lock:
            record = self._known()
            now = self._clock.now()
            folded, fresh = fold(record, self._source.read(record.cursor), now)
            for attempt in fresh:
                self._audit.append(
                    actor=attempt.account,
                    action="egress.attempt",
                    object_=f"{attempt.protocol} {attempt.destination}",
                    outcome="refused",
                    details={"count": str(attempt.count)},
                )
            self._store.save(folded)
            self._record = folded
            return report(folded)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the alarms that follow from the newest look; none before the first."""
        record = self._record
        return () if record is None else alerts(record, self._clock.now())

    def start(self) -> None:
        """Look at once and go on looking until `stop`."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="egress", daemon=True)
        self._thread.start()

    def stop(self, *, timeout_s: float = 1.0) -> None:
        """Look no more; waits up to `timeout_s` for a look that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _known(self) -> EgressRecord:
        if self._record is not None:
            return self._record
        record = self._store.load()
        if record is None:
            record = begin(self._clock.now())
            self._audit.append(actor="leewardd", action="egress.count", object_="node", outcome="begun", details={})
        return record

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look_safely()
            self._stop.wait(self._interval_s)

    def _look_safely(self) -> None:
        try:
            self.look()
        except Exception:  # the outermost place of this thread; the record's age shows that it stands still
            log.exception("egress_not_read")


LookForEgress = Callable[[], EgressReport]
"""Gives the newest report."""
