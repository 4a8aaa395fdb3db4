"""The instructions of a delta: which bytes of a file come from where. Pure.

They lie on the medium as `blobs/delta.json`, in canonical JSON, unsigned. Each file that they name is
a row of segments without gap; a segment comes from a file of the node's store (`base` is its
number), or from the file's own carried bytes, in order. Everything is checked before a byte moves:
numbers, sums, offsets, and that no name is anything but a digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bundles import codec
from bundles.digest import is_sha256_hex
from bundles.errors import ContentMismatch, LeewardError
from bundles.manifest import MAX_FILES, check_path
from bundles.release import MAX_FILE_BYTES

NAME = "delta.json"
SCHEMA = "leeward-delta/1"
MAX_DELTA_BYTES = 64 * 1024 * 1024
MAX_SEGMENTS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A file of the store to build on; `path` is what people call it."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """`length` bytes from `offset` of a base, or of the file's carried bytes where `base` is None."""

    base: int | None
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """How one file, named by its digest, is put together."""

    sha256: str
    segments: tuple[Segment, ...]

    @property
    def size_bytes(self) -> int:
        """What the segments add up to."""
        return sum(segment.length for segment in self.segments)

    @property
    def carried_bytes(self) -> int:
        """How many bytes of the file the medium carries."""
        return sum(segment.length for segment in self.segments if segment.base is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """All instructions of a medium. Raises ValueError where they break a rule."""

    schema: str
    bases: tuple[Base, ...]
    files: tuple[FilePlan, ...]

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"its schema is {self.schema[:80]!a}; this version of Leeward reads {SCHEMA!r}")
        if len(self.bases) > MAX_FILES or sum(len(plan.segments) for plan in self.files) > MAX_SEGMENTS:
            raise ValueError(f"more than {MAX_FILES:,} bases or {MAX_SEGMENTS:,} segments")
        for base in self.bases:
            _check_base(base)
        if len(self.plans) != len(self.files):
            raise ValueError("a file has two plans")
        for plan in self.files:
            self._check_plan(plan)

    @property
    def plans(self) -> Mapping[str, FilePlan]:
        """The plans by the digest of their file."""
        return {plan.sha256: plan for plan in self.files}

    def _check_plan(self, plan: FilePlan) -> None:
        if not is_sha256_hex(plan.sha256):
            raise ValueError("a file is not named by 64 lower-case hex digits")
        carried = 0
        for segment in plan.segments:
            if segment.length < 1 or segment.offset < 0 or segment.length > MAX_FILE_BYTES:
                raise ValueError(f"{plan.sha256} has {segment.length} bytes from {segment.offset}")
            if segment.base is None:
                if segment.offset != carried:
                    raise ValueError(f"{plan.sha256} takes its carried bytes out of order")
                carried += segment.length
            elif not 0 <= segment.base < len(self.bases):
                raise ValueError(f"{plan.sha256} builds on base {segment.base}; there are {len(self.bases)}")
            elif segment.offset + segment.length > self.bases[segment.base].size_bytes:
                raise ValueError(f"{plan.sha256} reads behind the end of {self.bases[segment.base].path}")
        if plan.size_bytes > MAX_FILE_BYTES:
            raise ValueError(f"{plan.sha256} adds up to {plan.size_bytes:,} bytes")


def delta_to_bytes(delta: Delta) -> bytes:
    """Return the bytes of `blobs/delta.json`."""
    return codec.canonical_json(codec.to_plain(delta))


def delta_from_bytes(content: bytes) -> Delta:
    """Read `blobs/delta.json`. Raises ContentMismatch with the first broken rule."""
    if len(content) > MAX_DELTA_BYTES:
        raise _refused(f"they have {len(content):,} bytes; {MAX_DELTA_BYTES:,} are allowed")
    try:
        return codec.from_plain(codec.parse_json(content), Delta)
    except codec.CodecError as error:
        raise _refused(str(error)) from error


def _refused(detail: str) -> ContentMismatch:
    return ContentMismatch(
        detail=f"the instructions of the delta cannot be followed: {detail}",
        remedy="Do not import this medium. Make the delta again with `leeward bundle delta`.",
    )


def _check_base(base: Base) -> None:
    if not is_sha256_hex(base.sha256) or not 0 <= base.size_bytes <= MAX_FILE_BYTES:
        raise ValueError("a base has no sound digest and size")
    try:
        check_path(base.path)
    except LeewardError as error:
        raise ValueError(error.detail) from error
