"""XIDs of this boot, from the kernel's log through journald.

NVML has events for XIDs too. They are not used: whoever waits for them holds the driver open, so that it
could not be replaced while the daemon runs, and the driver writes each XID to the kernel's log anyway.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from appliance.adapters.host.egress import Run, run
from appliance.domain.xid import XidSeen, newest, xid_in

INTERVAL_S: Final = 15.0
_JOURNAL: Final = (
    "/usr/bin/journalctl", "--dmesg", "--output=json", "--output-fields=MESSAGE", "--no-pager", "--quiet",
)  # fmt: skip


class KernelXids:
    """Reads what came since the last look; thread-safe. `interval_s` is how old an answer may be."""

    def __init__(
        self, *, run: Run = run, interval_s: float = INTERVAL_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._run = run
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._cursor: str | None = None
        self._seen: tuple[XidSeen, ...] = ()
        self._read_at_s: float | None = None
        self._is_known = False

    def read(self) -> tuple[XidSeen, ...] | None:
        """Return the last XID of each number on each GPU since the node started; `None` where the log is closed."""
        with self._lock:
            now_s = self._monotonic()
            if self._read_at_s is None or now_s - self._read_at_s >= self._interval_s:
                self._read_at_s = now_s
                self._look()
            return self._seen if self._is_known else None

    def _look(self) -> None:
        since = () if self._cursor is None else (f"--after-cursor={self._cursor}",)
        lines = self._run((*_JOURNAL, *since))
        self._is_known = lines is not None
        if lines is not None:
            self._seen = newest((*self._seen, *self._xids(lines)))

    def _xids(self, lines: str) -> Iterator[XidSeen]:
        for line in lines.splitlines():
            entry = json.loads(line)
            self._cursor = entry.get("__CURSOR", self._cursor)
            message = entry.get("MESSAGE")
            if isinstance(message, str) and "Xid" in message:  # bytes that are no text come as a list
                at = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, tz=UTC)
                if (found := xid_in(message, at)) is not None:
                    yield found
