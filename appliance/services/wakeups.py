"""Waking readers that wait for an operation's next event.

Events are stored by worker threads, readers wait in an asyncio loop; `notify` crosses from one to
the other. A reader subscribes before it looks, so that nothing falls between looking and waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import RLock

Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Wakeups:
    """Who waits. `notify` may be called from any thread, `subscribed` inside a running loop."""

    def __init__(self) -> None:
        self._lock = RLock()  # a signal handler may notify while its own thread subscribes
        self._waiters: set[Waiter] = set()

    @contextmanager
    def subscribed(self) -> Iterator[asyncio.Event]:
        """Give an event that is set at each notification; the reader clears it before it looks."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiters.add(waiter)
        try:
            yield waiter[1]
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def notify(self) -> None:
        """Wake everyone who waits."""
        with self._lock:
            waiters = tuple(self._waiters)
        for loop, woken in waiters:
            with suppress(RuntimeError):  # the loop was closed under the reader's feet
                loop.call_soon_threadsafe(woken.set)
