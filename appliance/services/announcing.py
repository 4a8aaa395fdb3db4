"""From a step's events to the journal: progress at 4 Hz at most, everything else as it comes."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from appliance.domain.events import Event, Progressed, StepFinished
from appliance.ports import Emit

PROGRESS_INTERVAL_S = 0.25


class Announcer:
    """The `emit` of one running operation; thread-safe.

    Progress that comes sooner than `PROGRESS_INTERVAL_S` after the last one stored is held, and
    replaced by newer progress; the last figure of a step is stored before the step's end.
    """

    def __init__(self, store: Emit, monotonic_s: Callable[[], float]) -> None:
        self._store = store
        self._monotonic_s = monotonic_s
        self._lock = Lock()
        self._held: Progressed | None = None
        self._stored_at_s = float("-inf")

    def __call__(self, event: Event) -> None:
        """Store an event, or hold it for a moment when it is progress."""
        with self._lock:
            if isinstance(event, Progressed):
                self._progress(event)
                return
            if isinstance(event, StepFinished) and self._held is not None:
                self._store(self._held)
                self._held = None
            self._store(event)

    def _progress(self, event: Progressed) -> None:
        now_s = self._monotonic_s()
        if now_s - self._stored_at_s < PROGRESS_INTERVAL_S:
            self._held = event
            return
        self._held, self._stored_at_s = None, now_s
        self._store(event)
