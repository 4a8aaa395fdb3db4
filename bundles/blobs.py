"""Where the bytes of a release come from: the seam between verification and any medium.

Verification and import are the same code over any `Blobs`: a plain medium (`MediumBlobs`), a set of
volumes with parity (`bundles.media`), or a delta on the node's store (`bundles.delta`). What these
give is never trusted: the caller hashes every leaf and compares it with the signed digest, what
`repair` gives included. So an implementation decides where bytes lie, never whether they are right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bundles.digest import pieces
from bundles.errors import ContentMismatch, MediaMissing
from bundles.layout import BLOBS, Bundle, Part, parts
from bundles.release import LEAF_BYTES, PART_BYTES, FileEntry
from bundles.transfer import read_into

COPY = "Do not import this medium. Ask the publisher for a good copy and check how it travelled."
"""The remedy for wrong bytes."""
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupt:
    """A file with wrong bytes: its path and the numbers (from 0) of the leaves that differ."""

    path: str
    leaves: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """How a medium differs from the signed list. `extra` are names on the medium."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    corrupt: tuple[Corrupt, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.corrupt)

    def __str__(self) -> str:
        told = [
            _listed("missing", self.missing),
            _listed("not signed", self.extra),
            _listed("damaged", tuple(f"{one.path} (leaf {numbers(one.leaves)})" for one in self.corrupt)),
        ]
        return "; ".join(line for line in told if line) or "everything is as signed"


class BlobReader(Protocol):
    """One file's bytes, leaf by leaf, wherever they lie.

    Calls come one at a time, though from any thread, so a reader needs no lock. `fill` goes upwards
    through the leaves, give or take a few, and leaves out those that are not needed any more;
    `repair` may come for any leaf that `fill` was called for.
    """

    def fill(self, leaf: int, view: memoryview) -> None:
        """Fill all of `view` with a leaf's bytes, which are as yet unverified.

        Raises VolumesMissing where the leaf is still to come on a volume that is not here,
        MediaMissing where reading fails, ContentMismatch where bytes are missing, StoreUnusable
        where they come from the store and that fails.
        """
        ...

    def repair(self, leaf: int, view: memoryview) -> bool:
        """Fill `view` with other bytes for a leaf that was wrong, unreadable or not here.

        Called again until the bytes are right or it gives False: there are no others. Raises what
        `fill` raises, where that says more than a refusal of the first bytes.
        """
        ...


@runtime_checkable
class PieceReader(BlobReader, Protocol):
    """A reader that can also give a leaf in pieces, which stay in a core's own cache while they are hashed."""

    def fill_piece(self, leaf: int, offset: int, view: memoryview) -> None:
        """Fill `view` with bytes of a leaf from an offset in it; raises what `fill` raises."""
        ...


class Blobs(Protocol):
    """The files of a release, on whatever carries them."""

    def compare(self, files: Iterable[FileEntry]) -> Diff:
        """Compare names and sizes with the signed list; cheap, so it comes before any copying.

        What is still to come on another volume, or can be restored, is no difference. Raises
        MediaMissing, ContentMismatch.
        """
        ...

    def opened(self, entry: FileEntry) -> AbstractContextManager[BlobReader]:
        """Open one file. Raises MediaMissing, ContentMismatch."""
        ...


@dataclass(frozen=True, slots=True)
class MediumBlobs:
    """A plain medium: all parts in its `blobs/`, nothing to repair from."""

    bundle: Bundle

    def compare(self, files: Iterable[FileEntry]) -> Diff:
        """Compare names and sizes in `blobs/`; every other name there is one that nobody signed."""
        wanted: dict[str, tuple[FileEntry, Part]] = {}
        for entry in files:
            for part in parts(entry):
                wanted.setdefault(part.name, (entry, part))
        missing: list[str] = []
        short: dict[str, tuple[int, ...]] = {}
        for name, (entry, part) in wanted.items():
            try:
                found = self.bundle.size(BLOBS, name)
            except FileNotFoundError:
                missing.append(entry.path)
                continue
            if found != part.size_bytes:
                first, behind = part.offset + min(found, part.size_bytes - 1), part.offset + part.size_bytes
                wrong = range(first // LEAF_BYTES, pieces(behind, LEAF_BYTES))
                short[entry.path] = (*short.get(entry.path, ()), *wrong)
        return Diff(
            missing=tuple(dict.fromkeys(missing)),
            extra=tuple(f"{BLOBS}/{name}" for name in self.bundle.names(BLOBS) if name not in wanted),
            corrupt=tuple(Corrupt(path=path, leaves=leaves) for path, leaves in short.items()),
        )

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[MediumFile]:
        """Open one file; its parts are opened as they are reached."""
        with ExitStack() as opened:
            yield MediumFile(bundle=self.bundle, entry=entry, opened=opened)


@dataclass(slots=True, kw_only=True)
class MediumFile:
    """One file's parts on a plain medium, opened one after the other."""

    bundle: Bundle
    entry: FileEntry
    opened: ExitStack
    _part: int = -1
    _descriptor: int = -1

    def fill(self, leaf: int, view: memoryview) -> None:
        """Read a leaf from its part. Raises ContentMismatch where bytes are missing, MediaMissing."""
        self.fill_piece(leaf, 0, view)

    def fill_piece(self, leaf: int, offset: int, view: memoryview) -> None:
        """Read bytes of a leaf from its part; raises what `fill` raises."""
        number, begin = divmod(leaf * LEAF_BYTES, PART_BYTES)
        if number != self._part:
            name = parts(self.entry)[number].name
            try:
                self._descriptor = self.opened.enter_context(self.bundle.open(BLOBS, name))
            except FileNotFoundError:
                raise ContentMismatch(detail=f"{BLOBS}/{name} ({self.entry.path}) is missing", remedy=COPY) from None
            self._part = number
        try:
            count = read_into(self._descriptor, view, begin + offset)
        except OSError as error:
            raise MediaMissing(
                detail=f"{self.entry.path}, leaf {leaf}: the medium gave {error.strerror or error}",
                remedy="Try again; if it fails at the same leaf, bring another copy of the bundle.",
            ) from error
        if count != len(view):
            raise damaged(self.entry, (leaf,))

    def repair(self, leaf: int, view: memoryview) -> bool:
        """There is only one copy of each leaf here."""
        del leaf, view
        return False


def damaged(entry: FileEntry, leaves: tuple[int, ...]) -> ContentMismatch:
    """Return the refusal of wrong bytes."""
    where = f"leaf {numbers(leaves)} of {len(entry.leaves)}"
    return ContentMismatch(detail=f"{entry.path}: {where} is not what was signed", remedy=COPY)


def numbers(leaves: tuple[int, ...]) -> str:
    """Return leaf numbers for a person, the first ten."""
    return ", ".join(map(str, leaves[:_SHOWN])) + ("…" if len(leaves) > _SHOWN else "")


def _listed(what: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(ascii(name).strip(chr(39)) for name in names[:_SHOWN])}{more}"
