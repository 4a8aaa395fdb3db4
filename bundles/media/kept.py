"""What this node has already: files of the store, and leaves in staging.

A staged file may have holes where leaves are still to come. Which ones is asked of the file system,
not of a journal: a hole was never written. What is there is a promise only; whoever reads a leaf
checks its digest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundles.release import LEAF_BYTES, FileEntry
from bundles.store import Store
from bundles.transfer import is_written, read_into

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The store and the staging folder of a node."""

    store: Store
    staging: Path

    def has(self, entry: FileEntry, number: int) -> bool:
        """Whether a leaf seems to be here."""
        with self.store.opened(entry) as descriptor:
            if descriptor is not None:
                return True
        with self._staged(entry) as staged:
            return staged is not None and is_written(staged, number * LEAF_BYTES, _size(entry, number))

    def read(self, entry: FileEntry, number: int, view: memoryview) -> bool:
        """Fill `view` with a leaf; False where it is not here. Raises OSError."""
        with self.store.opened(entry) as kept, self._staged(entry) as staged:
            descriptor = staged if kept is None else kept
            return descriptor is not None and read_into(descriptor, view, number * LEAF_BYTES) == len(view)

    @contextmanager
    def _staged(self, entry: FileEntry) -> Iterator[int | None]:
        try:
            descriptor = os.open(self.staging / f"{entry.sha256}.partial", _FLAGS)
        except OSError:
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _size(entry: FileEntry, number: int) -> int:
    return min(LEAF_BYTES, entry.size_bytes - number * LEAF_BYTES)
