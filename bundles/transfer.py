"""Bytes on their way: each is read once, hashed, and handed on. hashlib releases the interpreter's lock.

`share` is for files whose leaves are known: threads take leaf after leaf, several from one file, so
even one large file uses all cores. `hash_leaves` is for files that get their digests now: the leaf's
hash runs beside the whole file's, on two cores.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Executor, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from bundles.digest import EMPTY_SHA256, pieces, sha256_hex
from bundles.errors import Canceled
from bundles.release import LEAF_BYTES, FileEntry

Progress = Callable[[str, int, int], None]
"""Called with (path, bytes done, bytes in all), from any thread, at most once a leaf."""

IsCanceled = Callable[[], bool]

FILES_AT_ONCE = max(2, min(8, os.cpu_count() or 2))

THREADS = max(2, min(8, 2 * (os.cpu_count() or 2)))
"""How many leaves are under way at once, each in a buffer of 16 MiB: at most 128 MiB of memory.

More than cores, so that some are hashing while others wait for a disk or for their turn.
"""

PIECE_BYTES = 1024 * 1024
"""Hashing in pieces of this size finds them in a core's own cache, where they were just read to."""

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


def is_written(descriptor: int, offset: int, length: int) -> bool:
    """Whether these bytes lie in the file and none of them in a hole; room that is only reserved is a hole."""
    try:
        return (
            os.fstat(descriptor).st_size >= offset + length
            and os.lseek(descriptor, offset, os.SEEK_DATA) == offset
            and os.lseek(descriptor, offset, os.SEEK_HOLE) >= offset + length
        )
    except OSError:  # ENXIO: nothing but a hole from here on
        return False


def hash_in_pieces(size_bytes: int, fill: Callable[[int, memoryview], None], buffer: memoryview) -> str:
    """Return the SHA-256 of what `fill(offset, view)` gives piece after piece, each into the front of `buffer`."""
    digest = hashlib.sha256()
    for offset in range(0, size_bytes, PIECE_BYTES):
        piece = buffer[: min(PIECE_BYTES, size_bytes - offset)]
        fill(offset, piece)
        digest.update(piece)
    return digest.hexdigest()


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


class LeafWork(Protocol):
    """Work on one file, leaf by leaf."""

    entry: FileEntry

    def begin(self, opened: ExitStack) -> None:
        """Open what is needed; `opened` is closed after the end, whatever it is."""
        ...

    def take(self, leaf: int, view: memoryview) -> None:
        """Do one leaf in a view of its size; several threads at once, each with another leaf."""
        ...

    def finish(self) -> None:
        """Do what comes after the last leaf. Called once."""
        ...


def share(works: Iterable[LeafWork], meter: Meter, *, threads: int = THREADS) -> None:
    """Do all works with that many threads; the first error stops all and is raised.

    Half as many files as threads are under way at once and the other threads help with them, so that
    a slow medium is read mostly in one direction.
    """
    desk = _Desk(waiting=iter(works), meter=meter, files_at_once=max(1, threads // 2))
    try:
        each(range(threads), desk.serve, meter, at_once=threads)
    finally:
        desk.close()


@dataclass(slots=True, kw_only=True)
class _Desk:
    """Hands out files to threads."""

    waiting: Iterator[LeafWork]
    meter: Meter
    files_at_once: int
    _under_way: list[_SharedFile] = field(default_factory=list)
    _opened: ExitStack = field(default_factory=ExitStack)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, _thread: int, _pool: Executor) -> None:
        """Work until there is nothing left to begin."""
        buffer = memoryview(mmap.mmap(-1, LEAF_BYTES))  # takes memory only as far as it is used
        while (file := self._next()) is not None:
            while (leaf := file.next()) is not None:
                self.meter.check()
                file.take(leaf, buffer)

    def close(self) -> None:
        """Close what an error left open."""
        self._opened.close()

    def _next(self) -> _SharedFile | None:
        with self._lock:
            self.meter.check()
            self._under_way = [file for file in self._under_way if file.has_more]
            if len(self._under_way) < self.files_at_once:
                work = next(self.waiting, None)
                if work is not None:
                    file = _SharedFile(work)
                    self._opened.callback(file.opened.close)
                    work.begin(file.opened)
                    self._under_way.append(file)
                    return file
            return self._under_way[-1] if self._under_way else None


class _SharedFile:
    """One file whose leaves several threads take."""

    def __init__(self, work: LeafWork) -> None:
        self.opened = ExitStack()
        self._work = work
        self._begun = 0
        self._ended = 0
        self._count = max(1, len(work.entry.leaves))  # an empty file is finished too
        self._lock = threading.Lock()

    @property
    def has_more(self) -> bool:
        """Whether a leaf is left to begin."""
        return self._begun < self._count

    def next(self) -> int | None:
        """Return a leaf that nobody has begun."""
        with self._lock:
            if not self.has_more:
                return None
            self._begun += 1
            return self._begun - 1

    def take(self, leaf: int, buffer: memoryview) -> None:
        """Do a leaf; who ends the last one finishes the file."""
        size = min(LEAF_BYTES, self._work.entry.size_bytes - leaf * LEAF_BYTES)
        if size:
            self._work.take(leaf, buffer[:size])
        with self._lock:
            self._ended += 1
            is_last = self._ended == self._count
        if is_last:
            self._work.finish()
            self.opened.close()


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
