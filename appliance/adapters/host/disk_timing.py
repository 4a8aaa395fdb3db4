"""How fast a disk reads, writes and makes a write durable, in well under a second.

Rules: a block device is opened for reading only; what is written goes to an unnamed file
(O_TMPFILE) in a folder of Leeward's own, which the kernel takes away however this process ends.
Reads and writes pass the page cache by (O_DIRECT). Each measurement has its own time limit, so the
whole is bounded by their sum and by one request that hangs. What cannot be measured is `None`.

Not measured: a controller's own cache, which can make both figures better than the disk.
"""

from __future__ import annotations

import mmap
import os
import random
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.domain.node import DiskTiming

CHUNK_BYTES: Final = 4 * 2**20
SAMPLE_BYTES: Final = 64 * 2**20
SYNCS: Final = 100
SYNC_BYTES: Final = 4096
_LIMIT_S: Final = 0.2
"""For each of reading, writing and syncing."""


class DiskTimer:
    """Measures file systems. `now_s` is a monotonic clock; `limit_s` bounds each of the three parts."""

    def __init__(
        self, *, root: Path = Path("/"), limit_s: float = _LIMIT_S, now_s: Callable[[], float] = time.perf_counter
    ) -> None:
        self._root = root
        self._limit_s = limit_s
        self._now_s = now_s

    def state(self, path: str) -> DiskTiming | None:
        """Measure the file system of Leeward's own folder `path`; `None` where the folder is not there."""
        folder = self._root / path.lstrip("/")
        if not folder.is_dir():
            return None
        device = self._block_device(folder)
        syncs = self._syncs(folder)
        written = self._scratch(folder)
        read = self._read(device) if device else None
        return DiskTiming(
            path=path,
            source="file" if read is None else "device",
            read_bytes_per_s=written[1] if read is None else read,
            write_bytes_per_s=written[0],
            sync_p99_s=syncs[-max(1, len(syncs) // 100)] if syncs else None,
            syncs=len(syncs),
        )

    def medium(self, path: Path) -> DiskTiming | None:
        """Measure reading from a medium by its largest file, which is opened read-only and without links."""
        largest = self._largest(path / "blobs")
        speed = self._read(largest) if largest else None
        return None if speed is None else DiskTiming(path=str(path), source="file", read_bytes_per_s=speed)

    def _block_device(self, folder: Path) -> Path | None:
        number = folder.stat().st_dev
        name = self._root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}/uevent"
        try:
            words = dict(line.split("=", 1) for line in name.read_text().splitlines() if "=" in line)
            device = self._root / "dev" / words["DEVNAME"]
            same = device.stat()
        except (OSError, KeyError):
            return None
        return device if stat.S_ISBLK(same.st_mode) and same.st_rdev == number else None

    def _largest(self, folder: Path) -> Path | None:
        try:
            with os.scandir(folder) as entries:
                files = [
                    (e.stat(follow_symlinks=False).st_size, e.path) for e in entries if e.is_file(follow_symlinks=False)
                ]
        except OSError:
            return None
        return Path(max(files)[1]) if files else None

    def _read(self, path: Path) -> float | None:
        """Read chunks at random places, so that no read-ahead and no cache of an earlier reading helps."""
        try:
            with _opened(path, os.O_RDONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
                chunks = os.lseek(descriptor, 0, os.SEEK_END) // CHUNK_BYTES
                places = [random.randrange(chunks) for _ in range(SAMPLE_BYTES // CHUNK_BYTES)] if chunks else []  # noqa: S311  no secret
                return self._pace(lambda buffer, place: os.preadv(descriptor, [buffer], place * CHUNK_BYTES), places)
        except OSError:
            return None

    def _scratch(self, folder: Path) -> tuple[float | None, float | None]:
        """Return the pace of writing an unnamed file, and of reading it back."""
        try:
            with _opened(folder, os.O_RDWR | os.O_TMPFILE | os.O_DIRECT) as descriptor:
                places = list(range(SAMPLE_BYTES // CHUNK_BYTES))
                begun_s = self._now_s()
                count = 0
                with _buffer(CHUNK_BYTES) as buffer:
                    buffer.write(os.urandom(CHUNK_BYTES))  # a disk that compresses shall not win by zeros
                    while count < len(places) and self._now_s() - begun_s < self._limit_s:
                        os.pwritev(descriptor, [buffer], count * CHUNK_BYTES)
                        count += 1
                os.fdatasync(descriptor)
                written = count * CHUNK_BYTES / max(self._now_s() - begun_s, 1e-9)
                return written, self._pace(
                    lambda buffer, place: os.preadv(descriptor, [buffer], place * CHUNK_BYTES), places[:count]
                )
        except OSError:
            return None, None

    def _pace(self, act: Callable[[mmap.mmap, int], int], places: list[int]) -> float | None:
        """Return bytes a second over as many places as the limit allows; `None` where there are none."""
        moved = 0
        begun_s = self._now_s()
        with _buffer(CHUNK_BYTES) as buffer:
            for place in places:
                moved += act(buffer, place)
                if self._now_s() - begun_s >= self._limit_s:
                    break
        return moved / max(self._now_s() - begun_s, 1e-9) if moved else None

    def _syncs(self, folder: Path) -> list[float]:
        """Return the seconds of each small durable write, quickest first."""
        took: list[float] = []
        try:
            with _opened(folder, os.O_RDWR | os.O_TMPFILE) as descriptor:
                begun_s = self._now_s()
                while len(took) < SYNCS and self._now_s() - begun_s < self._limit_s:
                    before_s = self._now_s()
                    os.pwrite(descriptor, b"\0" * SYNC_BYTES, len(took) * SYNC_BYTES)
                    os.fdatasync(descriptor)
                    took.append(self._now_s() - before_s)
        except OSError:
            return []
        return sorted(took)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _buffer(size_bytes: int) -> Iterator[mmap.mmap]:
    """Give memory that begins at a page, as O_DIRECT wants it."""
    buffer = mmap.mmap(-1, size_bytes)
    try:
        yield buffer
    finally:
        buffer.close()
