"""How a file is cut into chunks that can be found again in another file.

A safetensors file is cut at its tensors, each into pieces of at most one leaf, so that a tensor
keeps its chunks when it moves or when the header grows. Any other large file is cut into its
leaves. Wheels and Debian packages are compressed as a whole: an unchanged one has its digest, and a
changed one has nothing in common with the old, so they are not cut at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field

from bundles import safetensors
from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, MediaMissing
from bundles.layout import BLOBS, Bundle
from bundles.release import LEAF_BYTES, PART_BYTES
from bundles.transfer import read_into

SMALLEST_BYTES = 128
"""A shorter chunk travels as it is: naming it would take as much room."""

Fill = Callable[[memoryview, int], int]
"""Fills a view from an offset of one file; returns how many bytes there were."""

_WHOLE_SUFFIXES = (".whl", ".deb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Bytes of one file: `length` of them from `offset`."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """A chunk that was read; it has no digest where it is too short to be named."""

    at: Range
    view: memoryview
    sha256: str | None


def is_cut(path: str, size_bytes: int) -> bool:
    """Whether chunks of this file are worth looking for: else only the whole of it is."""
    if path.endswith(_WHOLE_SUFFIXES):
        return False
    return path.endswith(".safetensors") or size_bytes > LEAF_BYTES


def ranges(path: str, size_bytes: int, fill: Fill) -> Iterator[Range]:
    """Cut the file `path` into chunks, which follow each other without gap.

    Raises ReleaseInvalid where a safetensors file is unsound, and what `fill` raises.
    """
    if not path.endswith(".safetensors"):
        yield from _leaves(0, size_bytes)
        return

    def read(offset: int, length: int) -> bytes:
        content = bytearray(length)
        return bytes(content[: fill(memoryview(content), offset)])

    tensors = safetensors.read_header(path, size_bytes, read)
    header_end = size_bytes - (tensors[-1].end if tensors else 0)
    yield from _leaves(0, header_end)
    for tensor in tensors:
        yield from _leaves(header_end + tensor.begin, header_end + tensor.end)


def hash_cut(path: str, size_bytes: int, fill: Fill, take: Callable[[Hashed], None], pool: Executor) -> str | None:
    """Read a file once, chunk by chunk, and return the SHA-256 of the whole; None where it is too short.

    `take` gets every chunk in order, before its view is used again. Raises what `ranges` raises.
    """
    whole = hashlib.sha256()
    buffer = memoryview(bytearray(min(size_bytes, LEAF_BYTES)))
    for at in ranges(path, size_bytes, fill):
        view = buffer[: at.length]
        if fill(view, at.offset) != at.length:
            return None
        digest = pool.submit(sha256_hex, view) if at.length >= SMALLEST_BYTES else None
        whole.update(view)
        take(Hashed(at=at, view=view, sha256=digest.result() if digest else None))
    return whole.hexdigest()


@dataclass(slots=True, kw_only=True)
class CarriedFile:
    """Bytes that lie on a medium as pieces `blobs/<stem>000`, `001`, …, each full but the last."""

    bundle: Bundle
    stem: str
    opened: ExitStack
    _descriptors: dict[int, int] = field(default_factory=dict)

    def fill(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset`, across pieces; returns how many bytes there were.

        Raises ContentMismatch where a piece is missing or no regular file, MediaMissing when
        reading fails.
        """
        done = 0
        while done < len(view):
            number, within = divmod(offset + done, PART_BYTES)
            wanted = view[done : done + PART_BYTES - within]
            try:
                count = read_into(self._descriptor(number), wanted, within)
            except OSError as error:
                raise MediaMissing(
                    detail=f"{BLOBS}/{self.stem}{number:03d}: the medium gave {error.strerror or error}",
                    remedy="Try again; if it fails at the same place, bring another copy.",
                ) from error
            done += count
            if count != len(wanted):
                break
        return done

    def _descriptor(self, number: int) -> int:
        if number not in self._descriptors:
            name = f"{self.stem}{number:03d}"
            try:
                self._descriptors[number] = self.opened.enter_context(self.bundle.open(BLOBS, name))
            except FileNotFoundError:
                raise ContentMismatch(
                    detail=f"{BLOBS}/{name} is missing", remedy="Copy the whole medium again from its source."
                ) from None
        return self._descriptors[number]


def _leaves(begin: int, end: int) -> Iterator[Range]:
    for offset in range(begin, end, LEAF_BYTES):
        yield Range(offset=offset, length=min(LEAF_BYTES, end - offset))
