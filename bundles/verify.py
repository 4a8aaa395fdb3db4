"""Content against the signed list: verify in place, or import into the store.

What is compared is the leaf, 16 MiB of a file, by its signed SHA-256: reading goes from the front of
a file to its end, hashing on as many cores as there are (`bundles.transfer.share`). The digest of a
whole file is only its name here, see ADR 0007.

An import reads the medium once. Each leaf is written to `staging` as it is read, hashed while the next
is read, and offered for repair if it is wrong. A file whose leaves are all right is made durable and
moves into the store under its name; when all are there, a slot of hard links is built under a temporary
name and appears with one rename. A killed import is resumed by hashing what lies in staging: leaves that
match are not read again from the medium. No journal is needed, and none could be wrong.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bundles import safetensors
from bundles.blobs import COPY, BlobReader, Blobs, Corrupt, Diff, MediumBlobs, PieceReader, damaged
from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, MediaMissing, VolumesMissing
from bundles.layout import Bundle, read_at
from bundles.release import FileEntry, Release
from bundles.store import SlotBuilder, StagedFile, Store, check_room, holds_leaf
from bundles.transfer import IsCanceled, Meter, Progress, hash_in_pieces, never, share, silent
from bundles.trust import Verified
from bundles.verity import protect


def verify_content(
    source: Bundle | Blobs, release: Release, *, progress: Progress = silent, is_canceled: IsCanceled = never
) -> Diff:
    """Read every file of the medium and compare it with the signed list; changes nothing.

    Raises MediaMissing when reading fails, VolumesMissing, Canceled.
    """
    blobs = _blobs(source)
    shape = blobs.compare(release.files)
    unique = _unique(release.files)
    meter = _meter(unique.values(), progress, is_canceled)
    unreadable = {entry.sha256 for entry in release.files if entry.path in shape.missing}
    works = [
        _Comparison(entry=entry, blobs=blobs, meter=meter)
        for entry in unique.values()
        if entry.sha256 not in unreadable
    ]
    share(works, meter)
    wrong = {work.entry.sha256: work.bad for work in works}
    sizes = {one.path: one.leaves for one in shape.corrupt}
    found = ((entry.path, {*wrong.get(entry.sha256, ()), *sizes.get(entry.path, ())}) for entry in release.files)
    corrupt = tuple(Corrupt(path=path, leaves=tuple(sorted(leaves))) for path, leaves in found if leaves)
    return Diff(missing=shape.missing, extra=shape.extra, corrupt=corrupt)


def import_release(
    source: Bundle | Blobs,
    verified: Verified,
    *,
    store: Path,
    slots: Path,
    staging: Path,
    progress: Progress = silent,
    is_canceled: IsCanceled = never,
) -> Path:
    """Copy a checked release into the store and make its slot; returns the slot's folder.

    `store`, `slots` and `staging` must lie on one file system that has hard links. A slot that is
    there already and intact is left alone; a damaged file of it is replaced. The caller commits the
    trusted state afterwards, with `verified.commit()`.

    Raises ContentMismatch with file and leaf, MediaMissing, VolumesMissing after all that is here
    was taken, StoreFull with both numbers, StoreUnusable, ReleaseInvalid, PairMismatch, Canceled.
    After any of them no slot was made or changed; what was verified is kept for the next try.
    """
    release = verified.release
    blobs = _blobs(source)
    builder = SlotBuilder(slots=slots, store=Store(store / "sha256"), staging=staging)
    builder.prepare(release, verified.release_json)
    shape = blobs.compare(release.files)
    if shape:
        raise ContentMismatch(detail=str(shape), remedy=COPY)
    unique = _unique(release.files)
    check_room(unique.values(), store=builder.store, staging=staging)
    importer = _Importer(
        blobs=blobs, store=builder.store, staging=staging, meter=_meter(unique.values(), progress, is_canceled)
    )
    first, rest = _params_first(unique)
    importer.take(first)
    if not importer.to_come:
        builder.check_pair(release)
    importer.take(rest)
    if importer.to_come:
        raise importer.to_come[-1]
    builder.check_weights(release)
    return builder.build(release, verified.release_json)


@dataclass(slots=True, kw_only=True)
class CheckedFile:
    """One file's leaves: read one at a time, hashed side by side; a wrong one is offered for repair.

    `write`, where there is one, gets each leaf as it is read: side by side where `writes_together`, else
    one at a time, before the next is read.
    """

    entry: FileEntry
    reader: BlobReader
    write: Callable[[int, memoryview], None] | None = None
    writes_together: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, leaf: int, view: memoryview) -> None:
        """Read a leaf, hand it to `write`, and hash it; on return what was written last is right.

        Writing comes before hashing, and a write past the page cache ends even where its process is killed;
        so who is killed has to read again only what lay between its reading and its writing: rarely more
        than one leaf of a file, never more than one a thread. Raises ContentMismatch, MediaMissing,
        VolumesMissing, and what `write` raises.
        """
        if self.write is None and self._is_right_in_pieces(leaf, view):
            return
        error: ContentMismatch | MediaMissing | None = None
        with self._lock:
            try:
                self.reader.fill(leaf, view)
            except (ContentMismatch, MediaMissing) as caught:
                error = caught
            else:
                if not self.writes_together:
                    self._keep(leaf, view)
        if error is None:
            if self.writes_together:
                self._keep(leaf, view)
            if self._is_right(leaf, view):
                return
        with self._lock:
            while self.reader.repair(leaf, view):
                if self._is_right(leaf, view):
                    self._keep(leaf, view)
                    return
        raise error or damaged(self.entry, (leaf,))

    def _keep(self, leaf: int, view: memoryview) -> None:
        if self.write is not None:
            self.write(leaf, view)

    def _is_right(self, leaf: int, view: memoryview) -> bool:
        return sha256_hex(view) == self.entry.leaves[leaf]

    def _is_right_in_pieces(self, leaf: int, view: memoryview) -> bool:
        """Take the quick way; where it finds anything wrong, the leaf is read again in one piece."""
        reader = self.reader
        if not isinstance(reader, PieceReader):
            return False

        def fill(offset: int, piece: memoryview) -> None:
            with self._lock:
                reader.fill_piece(leaf, offset, piece)

        try:
            return hash_in_pieces(len(view), fill, view) == self.entry.leaves[leaf]
        except (ContentMismatch, MediaMissing):
            return False


@dataclass(slots=True, kw_only=True)
class _Comparison:
    """Compares one file of a medium; `bad` are the leaves that differ."""

    entry: FileEntry
    blobs: Blobs
    meter: Meter = field(repr=False)
    bad: list[int] = field(default_factory=list)
    _checked: CheckedFile = field(init=False)

    def begin(self, opened: ExitStack) -> None:
        reader = opened.enter_context(self.blobs.opened(self.entry))
        self._checked = CheckedFile(entry=self.entry, reader=reader)

    def take(self, leaf: int, view: memoryview) -> None:
        try:
            self._checked.take(leaf, view)
        except ContentMismatch:
            self.bad.append(leaf)
        self.meter.add(self.entry.path, len(view))

    def finish(self) -> None:
        """Nothing is left to do."""


@dataclass(slots=True, kw_only=True)
class _Importer:
    """Brings files into the store; `to_come` says why some of them are not complete yet."""

    blobs: Blobs
    store: Store
    staging: Path
    meter: Meter = field(repr=False)
    to_come: list[VolumesMissing] = field(default_factory=list)

    def take(self, entries: Iterable[FileEntry]) -> None:
        """Take every file from the medium whose very bytes are not in the store."""
        wanted = list(entries)
        kept = [_Kept(entry=entry, store=self.store, meter=self.meter) for entry in wanted]
        share(kept, self.meter)
        share([_Taken(entry=work.entry, importer=self) for work in kept if not work.is_whole], self.meter)


@dataclass(slots=True, kw_only=True)
class _Kept:
    """Looks whether the store's file, if there is one, still has the signed bytes."""

    entry: FileEntry
    store: Store
    meter: Meter = field(repr=False)
    is_whole: bool = False
    _descriptor: int | None = None
    _counted: int = 0
    _wrong: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, opened: ExitStack) -> None:
        self._descriptor = opened.enter_context(self.store.opened(self.entry))
        self._wrong = self._descriptor is None

    def take(self, leaf: int, view: memoryview) -> None:
        if self._wrong or self._descriptor is None:
            return
        if not holds_leaf(self._descriptor, self.entry, leaf, view):
            self._wrong = True
            return
        with self._lock:
            self._counted += len(view)
        self.meter.add(self.entry.path, len(view))

    def finish(self) -> None:
        if self._wrong or self._descriptor is None:
            self.meter.add(self.entry.path, -self._counted)  # it is taken anew from the medium
            return
        descriptor = self._descriptor
        _check_header(self.entry, lambda offset, length: read_at(descriptor, length, offset, self.entry.path))
        protect(self.store.path(self.entry.sha256))  # in case a kill came before it
        self.is_whole = True


@dataclass(slots=True, kw_only=True)
class _Taken:
    """Takes one file from the medium into the store, unless leaves of it are still to come."""

    entry: FileEntry
    importer: _Importer
    _is_whole: bool = True
    _staged: StagedFile = field(init=False)
    _checked: CheckedFile = field(init=False)

    def begin(self, opened: ExitStack) -> None:
        importer = self.importer
        self._staged = opened.enter_context(importer.store.staged(importer.staging, self.entry))
        reader = opened.enter_context(importer.blobs.opened(self.entry))
        staged = self._staged
        self._checked = CheckedFile(
            entry=self.entry, reader=reader, write=staged.write, writes_together=staged.is_direct
        )

    def take(self, leaf: int, view: memoryview) -> None:
        if not self._staged.has(leaf, view):
            try:
                self._checked.take(leaf, view)
            except VolumesMissing as error:
                self._is_whole = False
                self.importer.to_come.append(error)
                return
        self.importer.meter.add(self.entry.path, len(view))

    def finish(self) -> None:
        if self._is_whole:
            _check_header(self.entry, self._staged.read)
            self._staged.adopt()


def _blobs(source: Bundle | Blobs) -> Blobs:
    return MediumBlobs(source) if isinstance(source, Bundle) else source


def _meter(entries: Iterable[FileEntry], progress: Progress, is_canceled: IsCanceled) -> Meter:
    return Meter(total=sum(entry.size_bytes for entry in entries), progress=progress, is_canceled=is_canceled)


def _check_header(entry: FileEntry, read: Callable[[int, int], bytes]) -> None:
    if entry.path.startswith("weights/") and entry.path.endswith(".safetensors"):
        safetensors.read_header(entry.path, entry.size_bytes, read)


def _unique(files: Iterable[FileEntry]) -> dict[str, FileEntry]:
    """Return one entry for each content; one below weights/ where there is one, for its stricter checks."""
    ordered = sorted(files, key=lambda entry: entry.path.startswith("weights/"))
    return {entry.sha256: entry for entry in ordered}


def _params_first(unique: Mapping[str, FileEntry]) -> tuple[list[FileEntry], list[FileEntry]]:
    """Two small files decide whether the pair fits; they come before the hundred gigabytes."""
    first = [entry for entry in unique.values() if entry.path.endswith("params.json")]
    return first, [entry for entry in unique.values() if entry not in first]
