"""The installed release, read again from the disk and compared with its signed list, slowly, for ever.

A round reads every file of a slot, past the page cache where the file system allows it, and hashes
leaves and whole file: the leaves show what the disk has changed, the whole shows whether the publisher
gave the file its true name (ADR 0007). Between two leaves it waits, so that it never takes more than
its share. The record is replaced atomically after each file; a killed round goes on at the file that
it was at. What is known to have drifted is looked at first, so that a repair is noticed at once.

The signed list is the one that was accepted here: a `release.json` with another digest is itself the drift,
and says nothing about the rest.

Nothing is repaired here: importing the release again from its medium does that.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from bundles import codec
from bundles.blobs import Corrupt, Diff, numbers
from bundles.digest import sha256_hex
from bundles.errors import Canceled, ContentMismatch, MediaMissing
from bundles.release import LEAF_BYTES, FileEntry, Release, release_from_bytes
from bundles.store import MANIFEST, storing
from bundles.transfer import fsync_folder, read_into

MAX_RECORD_BYTES = 16 * 1024 * 1024
_MAX_UNSIGNED = 1000
"""So many names that nobody signed are told; the rest is told when these are gone."""
_REMEDY = "Import the release again from its medium; that replaces damaged files."


class Fault(StrEnum):
    """What is wrong with a file of the slot."""

    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    MISSING = "missing or of another size"
    NOT_SIGNED = "not signed"
    MISNAMED = "misnamed"
    """All leaves are right, but the digest that was signed for the whole file is not its digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A file of a slot that is not as signed. `leaves` count 16 MiB pieces from 0; none: the whole file."""

    path: str
    fault: Fault
    leaves: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.path} is {self.fault}" + (f" (leaf {numbers(self.leaves)})" if self.leaves else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubRecord:
    """How far the scrub of one slot is.

    `done` files (of `files`, in path order) of the round that began at `begun_at` are read; `ended_at`
    is when the last whole round ended, `rounds` how many did. `drifts` is what is known now.
    """

    slot: str
    release_sha256: str
    begun_at: datetime
    done: int
    files: int
    read_bytes: int
    rounds: int
    ended_at: datetime | None
    drifts: tuple[Drift, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a scrub reads.

    `pause(seconds)` waits and gives True where it shall stop; `now` is in UTC, for the record;
    `monotonic` is in seconds, for the speed.
    """

    bytes_per_s: float
    pause: Callable[[float], bool]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]


def read_record(path: Path) -> ScrubRecord | None:
    """Return the record at `path`; None where there is none, or none that can be read: it is made anew."""
    try:
        with path.open("rb") as stream:
            return codec.from_plain(codec.parse_json(stream.read(MAX_RECORD_BYTES)), ScrubRecord)
    except (OSError, codec.CodecError):
        return None


class Scrub:
    """Scrubs one slot. `told` gets each drift when it is first seen.

    `accepted` is the SHA-256 (hex) of the `release.json` that the trusted state accepted for this slot; None
    where it knows none, and then the slot's own is taken for the signed list.
    """

    def __init__(
        self,
        slot: Path,
        record: Path,
        *,
        pace: Pace,
        told: Callable[[Drift], None],
        accepted: str | None = None,
    ) -> None:
        self._slot = slot
        self._path = record
        self._pace = pace
        self._told = told
        self._accepted = accepted
        self._blobs = SlotBlobs(slot, past_cache=True)

    def run(self) -> ScrubRecord:
        """Look at what has drifted, then go on with the round; returns the record when the round ends.

        Where the manifest is not the accepted one it returns at once, with that as the drift.

        Raises Canceled where it was stopped before, ReleaseInvalid where the slot's manifest is damaged,
        OSError where there is none, StoreFull or StoreUnusable where the record cannot be written.
        """
        content = (self._slot / MANIFEST).read_bytes()
        release = release_from_bytes(content)
        record = self._resumed(release, sha256_hex(content))
        if self._accepted not in {None, record.release_sha256}:
            return self._learned(record, MANIFEST, Drift(path=MANIFEST, fault=Fault.NOT_SIGNED))
        for drift in record.drifts:
            record = self._learned(record, drift.path, self._look(release, drift.path))
        for entry in release.files[record.done :]:
            record = self._learned(record, entry.path, self._read(entry))
            record = replace(record, done=record.done + 1, read_bytes=record.read_bytes + entry.size_bytes)
            self._write(record)
        for path in self._blobs.unsigned(release.files)[:_MAX_UNSIGNED]:
            record = self._learned(record, path, Drift(path=path, fault=Fault.NOT_SIGNED))
        record = replace(record, rounds=record.rounds + 1, ended_at=self._pace.now())
        self._write(record)
        return record

    def _resumed(self, release: Release, release_sha256: str) -> ScrubRecord:
        """Return the record to go on with: a new one for another release, a new round after a whole one."""
        known = read_record(self._path)
        fresh = ScrubRecord(
            slot=release.slot,
            release_sha256=release_sha256,
            begun_at=self._pace.now(),
            done=0,
            files=len(release.files),
            read_bytes=0,
            rounds=0,
            ended_at=None,
            drifts=(),
        )
        if known is None or (known.slot, known.release_sha256) != (fresh.slot, fresh.release_sha256):
            return fresh
        if known.done < known.files:
            return known
        return replace(fresh, rounds=known.rounds, ended_at=known.ended_at, drifts=known.drifts)

    def _learned(self, record: ScrubRecord, path: str, found: Drift | None) -> ScrubRecord:
        """Replace what was known of a file, and tell about what is new."""
        if found is not None and found not in record.drifts:
            self._told(found)
        others = tuple(drift for drift in record.drifts if drift.path != path)
        learned = replace(record, drifts=others if found is None else (*others, found))
        if learned != record:
            self._write(learned)
        return learned

    def _look(self, release: Release, path: str) -> Drift | None:
        """Look again at a file that has drifted."""
        for entry in release.files:
            if entry.path == path:
                return self._read(entry)
        return Drift(path=path, fault=Fault.NOT_SIGNED) if path in self._blobs.unsigned(release.files) else None

    def _read(self, entry: FileEntry) -> Drift | None:
        """Read one file at the pace."""
        faults: dict[int, Fault] = {}
        whole = hashlib.sha256()
        buffer = memoryview(bytearray(min(LEAF_BYTES, entry.size_bytes)))
        try:
            with self._blobs.opened(entry) as file:
                if os.fstat(file.descriptor).st_size != entry.size_bytes:
                    return Drift(path=entry.path, fault=Fault.MISSING)
                for leaf, digest in enumerate(entry.leaves):
                    begun = self._pace.monotonic()
                    view = buffer[: min(LEAF_BYTES, entry.size_bytes - leaf * LEAF_BYTES)]
                    fault = _fault(file, leaf, view, digest)
                    if fault:
                        faults[leaf] = fault
                    whole.update(view)
                    spent_s = self._pace.monotonic() - begun
                    if self._pace.pause(max(0.0, len(view) / self._pace.bytes_per_s - spent_s)):
                        raise Canceled(detail="the scrub was stopped", remedy="It goes on by itself.")
        except ContentMismatch:
            return Drift(path=entry.path, fault=Fault.MISSING)
        if faults:
            return Drift(path=entry.path, fault=min(faults.values()), leaves=tuple(faults))
        return None if whole.hexdigest() == entry.sha256 else Drift(path=entry.path, fault=Fault.MISNAMED)

    def _write(self, record: ScrubRecord) -> None:
        fresh = self._path.with_name(f".{self._path.name}.new")
        with storing(self._path):
            with fresh.open("wb") as stream:
                stream.write(codec.canonical_json(codec.to_plain(record)))
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(self._path)
            fsync_folder(self._path.parent)


def _fault(file: SlotFile, leaf: int, view: memoryview, digest: str) -> Fault | None:
    try:
        file.fill(leaf, view)
    except MediaMissing:
        return Fault.UNREADABLE
    except ContentMismatch:
        return Fault.DAMAGED
    return None if sha256_hex(view) == digest else Fault.DAMAGED


@dataclass(frozen=True, slots=True)
class SlotBlobs:
    """The files of a slot as `Blobs`: whole files, each under its own path, nothing to repair from.

    `past_cache` asks the disk, not what the kernel remembers of it; pages that a program has mapped stay.
    """

    slot: Path
    past_cache: bool = False

    def compare(self, files: Iterable[FileEntry]) -> Diff:
        """Compare names and sizes."""
        entries = tuple(files)
        missing, short = [], []
        for entry in entries:
            status = _status(self.slot / entry.path)
            if status is None or not stat.S_ISREG(status.st_mode):
                missing.append(entry.path)
            elif status.st_size != entry.size_bytes:
                first = min(status.st_size, entry.size_bytes - 1) // LEAF_BYTES
                short.append(Corrupt(path=entry.path, leaves=tuple(range(max(0, first), len(entry.leaves)))))
        return Diff(missing=tuple(missing), extra=self.unsigned(entries), corrupt=tuple(short))

    def unsigned(self, files: Iterable[FileEntry]) -> tuple[str, ...]:
        """Return the names in the slot that nobody signed; a link is one, wherever it points."""
        signed = {entry.path for entry in files} | {MANIFEST}
        found = []
        for folder, folders, names in os.walk(self.slot):
            for name in (*names, *(name for name in folders if Path(folder, name).is_symlink())):
                path = Path(folder, name).relative_to(self.slot).as_posix()
                if path not in signed:
                    found.append(path)
        return tuple(sorted(found))

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[SlotFile]:
        """Open one file. Raises ContentMismatch where it is not there, or not a regular file."""
        path = self.slot / entry.path
        status = _status(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            raise ContentMismatch(detail=f"{path} is missing, or not a regular file", remedy=_REMEDY)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield SlotFile(path, descriptor, self.past_cache)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class SlotFile:
    """One file of a slot."""

    path: Path
    descriptor: int
    past_cache: bool

    def fill(self, leaf: int, view: memoryview) -> None:
        """Read a leaf. Raises MediaMissing where the disk fails, ContentMismatch where bytes are missing."""
        self.fill_piece(leaf, 0, view)

    def fill_piece(self, leaf: int, offset: int, view: memoryview) -> None:
        """Read bytes of a leaf; raises what `fill` raises."""
        begin = leaf * LEAF_BYTES + offset
        try:
            self._forget(begin, len(view))
            count = read_into(self.descriptor, view, begin)
            self._forget(begin, len(view))
        except OSError as error:
            raise MediaMissing(detail=f"{self.path}, leaf {leaf}: {error.strerror or error}", remedy=_REMEDY) from error
        if count != len(view):
            raise ContentMismatch(detail=f"{self.path} ends in leaf {leaf}", remedy=_REMEDY)

    def repair(self, leaf: int, view: memoryview) -> bool:
        """There is only one copy here."""
        del leaf, view
        return False

    def _forget(self, begin: int, length: int) -> None:
        if self.past_cache:
            os.posix_fadvise(self.descriptor, begin, length, os.POSIX_FADV_DONTNEED)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def be_idle() -> None:
    """Give the calling thread the lowest priority for CPU and disk (nice 19, ioprio class idle); Linux on x86-64.

    Where a sandbox forbids it, the pace alone keeps the scrub small.
    """
    thread = threading.get_native_id()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, thread, 19)
    ioprio_set, who_process, idle = 251, 1, 3 << 13  # linux/ioprio.h, asm/unistd_64.h
    ctypes.CDLL(None).syscall(ioprio_set, who_process, thread, idle)
