"""Bytes on their way: each is read once, hashed twice (leaf and whole file) and handed on.

The leaf's hash runs on a pool's thread while the whole file's hash runs on the caller's, so even one
large file uses two cores; several files at once use the rest. hashlib releases the interpreter's
lock for both.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bundles.digest import EMPTY_SHA256, pieces, sha256_hex
from bundles.errors import Canceled
from bundles.release import LEAF_BYTES

Progress = Callable[[str, int, int], None]
"""Called with (path, bytes done, bytes in all), from any thread, at most once a leaf."""

IsCanceled = Callable[[], bool]

FILES_AT_ONCE = max(2, min(8, os.cpu_count() or 2))

T = TypeVar("T")


def silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


def hash_leaves(
    size_bytes: int,
    fill: Callable[[int, memoryview], None],
    take: Callable[[int, memoryview, str], None],
    pool: Executor,
) -> str:
    """Hash a file leaf by leaf and return the SHA-256 of the whole.

    `fill(leaf, view)` must fill the view with the leaf's bytes; `take(leaf, view, sha256)` gets them
    back with their digest, in order, before the view is used again.
    """
    if size_bytes == 0:
        return EMPTY_SHA256
    buffer = memoryview(bytearray(min(size_bytes, LEAF_BYTES)))
    if size_bytes <= LEAF_BYTES:
        fill(0, buffer)
        digest = sha256_hex(buffer)
        take(0, buffer, digest)
        return digest
    whole = hashlib.sha256()
    for leaf in range(pieces(size_bytes, LEAF_BYTES)):
        view = buffer[: min(LEAF_BYTES, size_bytes - leaf * LEAF_BYTES)]
        fill(leaf, view)
        leaf_digest = pool.submit(sha256_hex, view)
        whole.update(view)
        take(leaf, view, leaf_digest.result())
    return whole.hexdigest()


def read_into(descriptor: int, view: memoryview, offset: int) -> int:
    """Fill `view` from `offset` of a file; returns how many bytes there were. Raises OSError."""
    done = 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def write_from(descriptor: int, view: memoryview, offset: int) -> None:
    """Write all of `view` at `offset`. Raises OSError."""
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)


@dataclass(slots=True, kw_only=True)
class Meter:
    """Adds up bytes over threads, tells progress, and stops everyone when asked to."""

    total: int
    progress: Progress
    is_canceled: IsCanceled
    done: int = 0
    stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, count: int) -> None:
        """Count bytes and tell about them."""
        with self._lock:
            self.done += count
            self.progress(what, self.done, self.total)

    def check(self) -> None:
        """Raise Canceled when someone asked to stop, or when another file has failed."""
        if self.stopped or self.is_canceled():
            raise Canceled(detail="asked to stop between two pieces", remedy="Start again; what was verified is kept.")


def each(items: Iterable[T], work: Callable[[T, Executor], None], meter: Meter, *, at_once: int | None = None) -> None:
    """Do `work` for every item, several at once; the first error stops the others and is raised."""
    workers = at_once or FILES_AT_ONCE
    with ThreadPoolExecutor(workers) as leaf_pool, ThreadPoolExecutor(workers) as file_pool:
        futures = [file_pool.submit(work, item, leaf_pool) for item in items]
        done, pending = wait(futures, return_when=FIRST_EXCEPTION)
        meter.stopped = bool(pending)
        for future in pending:
            future.cancel()
        finished, _ = wait(futures)
    errors = [error for future in (*done, *finished) if not future.cancelled() and (error := future.exception())]
    real = [error for error in errors if not isinstance(error, Canceled)]
    for error in (*real, *errors):
        raise error


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with folder_descriptor(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def folder_descriptor(path: Path) -> Iterator[int]:
    """Open a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
