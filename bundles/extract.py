"""A checked bundle as plain files, for whoever reads them with other tools.

Each leaf is hashed as it is written into a partial folder, which gets its name with one rename after the
last byte was found as signed: what is there under that name is what was signed, all of it, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from bundles.blobs import COPY, Blobs
from bundles.errors import ContentMismatch, OutputOccupied, StoreUnusable
from bundles.output import check_room, whole_folder
from bundles.release import LEAF_BYTES, FileEntry
from bundles.transfer import IsCanceled, Meter, Progress, never, share, silent, write_from
from bundles.trust import Verified
from bundles.verify import CheckedFile


def extract(
    blobs: Blobs, verified: Verified, out: Path, *, progress: Progress = silent, is_canceled: IsCanceled = never
) -> None:
    """Write the files of a checked bundle below the new folder `out`.

    Raises OutputOccupied where `out` is there, ContentMismatch, MediaMissing, VolumesMissing, StoreFull,
    StoreUnusable, Canceled; after any of them, and after a kill, there is no `out`.
    """
    files = verified.release.files
    with _writing(out), whole_folder(out) as partial:
        if os.path.lexists(out):
            raise OutputOccupied(detail=f"{out} is there already", remedy="Name a new folder; nothing is overwritten.")
        shape = blobs.compare(files)
        if shape:
            raise ContentMismatch(detail=str(shape), remedy=COPY)
        meter = Meter(total=sum(entry.size_bytes for entry in files), progress=progress, is_canceled=is_canceled)
        check_room(out.parent, meter.total)
        partial.mkdir()
        share([_Extracted(entry=entry, blobs=blobs, folder=partial, meter=meter) for entry in files], meter)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn a failing write into StoreUnusable."""
    try:
        yield
    except OSError as error:
        raise StoreUnusable(
            detail=f"{error.filename or out}: {error.strerror or error}",
            remedy="Name a folder below one that is there, that you may write to and that has room.",
        ) from error


@dataclass(slots=True, kw_only=True)
class _Extracted:
    """One file on its way out."""

    entry: FileEntry
    blobs: Blobs
    folder: Path
    meter: Meter = field(repr=False)
    _stream: BinaryIO = field(init=False)
    _checked: CheckedFile = field(init=False)

    def begin(self, opened: ExitStack) -> None:
        path = self.folder / self.entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = opened.enter_context(path.open("xb", buffering=0))
        reader = opened.enter_context(self.blobs.opened(self.entry))
        self._checked = CheckedFile(entry=self.entry, reader=reader, write=self._write)

    def take(self, leaf: int, view: memoryview) -> None:
        self._checked.take(leaf, view)
        self.meter.add(self.entry.path, len(view))

    def finish(self) -> None:
        """Nothing is left to do: the whole folder is made durable at the end."""

    def _write(self, leaf: int, view: memoryview) -> None:
        write_from(self._stream.fileno(), view, leaf * LEAF_BYTES)
