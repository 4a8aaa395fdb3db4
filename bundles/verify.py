"""Content against the signed list: verify in place, or import into the store.

An import reads the medium once. Each file goes leaf by leaf through its hashes into `staging`, is
made durable, and moves into the store under its digest; when all are there, a slot of hard links is
built under a temporary name and appears with one rename. A killed import is resumed by hashing what
lies in staging: leaves that match are not read again from the medium. No journal is needed, and
none could be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bundles import safetensors
from bundles.errors import ContentMismatch, MediaMissing
from bundles.layout import BLOBS, Bundle, parts, read_at
from bundles.release import LEAF_BYTES, PART_BYTES, FileEntry, Release
from bundles.store import SlotBuilder, Store, check_room
from bundles.transfer import IsCanceled, Meter, Progress, each, hash_leaves, never, read_into, silent
from bundles.trust import Verified

_COPY = "Do not import this medium. Ask the publisher for a good copy and check how it travelled."
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
            _listed("damaged", tuple(f"{one.path} (leaf {_numbers(one.leaves)})" for one in self.corrupt)),
        ]
        return "; ".join(line for line in told if line) or "everything is as signed"


def verify_content(
    bundle: Bundle, release: Release, *, progress: Progress = silent, is_canceled: IsCanceled = never
) -> Diff:
    """Read every file of the medium and compare it with the signed list; changes nothing.

    Raises MediaMissing when reading fails, Canceled.
    """
    shape = _compare_names(bundle, release.files)
    unique = _unique(release.files)
    meter = Meter(total=sum(entry.size_bytes for entry in unique.values()), progress=progress, is_canceled=is_canceled)
    bad: dict[str, tuple[int, ...]] = {}
    unreadable = {entry.sha256 for entry in release.files if entry.path in shape.missing}

    def one(entry: FileEntry, pool: Executor) -> None:
        leaves = _differing_leaves(bundle, entry, pool, meter)
        if leaves:
            bad[entry.sha256] = leaves

    each([entry for entry in unique.values() if entry.sha256 not in unreadable], one, meter)
    corrupt = (Corrupt(path=entry.path, leaves=bad[entry.sha256]) for entry in release.files if entry.sha256 in bad)
    return Diff(missing=shape.missing, extra=shape.extra, corrupt=tuple(corrupt))


def import_release(
    bundle: Bundle,
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

    Raises ContentMismatch with file and leaf, MediaMissing, StoreFull with both numbers,
    StoreUnusable, ReleaseInvalid, PairMismatch, Canceled. After any of them no slot was made or
    changed; verified files stay in the store for the next try.
    """
    release = verified.release
    builder = SlotBuilder(slots=slots, store=Store(store / "sha256"), staging=staging)
    builder.prepare(release, verified.release_json)
    shape = _compare_names(bundle, release.files)
    if shape:
        raise ContentMismatch(detail=str(shape), remedy=_COPY)
    unique = _unique(release.files)
    check_room(unique.values(), store=builder.store, staging=staging)
    importer = _Importer(
        bundle=bundle,
        store=builder.store,
        staging=staging,
        meter=Meter(
            total=sum(entry.size_bytes for entry in unique.values()), progress=progress, is_canceled=is_canceled
        ),
    )
    first, rest = _params_first(unique)
    importer.take(first)
    builder.check_pair(release)
    importer.take(rest)
    importer.meter.check()
    return builder.build(release, verified.release_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Importer:
    bundle: Bundle
    store: Store
    staging: Path
    meter: Meter = field(repr=False)

    def take(self, entries: Iterable[FileEntry]) -> None:
        each(entries, self._take_one, self.meter)

    def _take_one(self, entry: FileEntry, pool: Executor) -> None:
        """Bring one file into the store, unless the very same bytes are there."""
        if self.store.holds(entry, self.meter):
            with self.store.opened(entry) as kept:
                _check_header(entry, lambda offset, length: read_at(kept or -1, length, offset, entry.path))
            return
        with ExitStack() as opened:
            staged = opened.enter_context(self.store.staged(self.staging, entry))
            medium = _MediumFile(bundle=self.bundle, entry=entry, opened=opened)

            def fill(leaf: int, view: memoryview) -> None:
                self.meter.check()
                if not staged.resume(leaf, view):
                    medium.fill(leaf, view)

            def take(leaf: int, view: memoryview, digest: str) -> None:
                if digest != entry.leaves[leaf]:
                    raise _damaged(entry, (leaf,))
                staged.write(leaf, view)
                self.meter.add(entry.path, len(view))

            if hash_leaves(entry.size_bytes, fill, take, pool) != entry.sha256:
                raise _damaged(entry, ())
            _check_header(entry, staged.read)
            staged.adopt()


@dataclass(slots=True, kw_only=True)
class _MediumFile:
    """One file's parts on the medium, opened one after the other."""

    bundle: Bundle
    entry: FileEntry
    opened: ExitStack
    _part: int = -1
    _descriptor: int = -1

    def fill(self, leaf: int, view: memoryview) -> None:
        """Fill `view` with a leaf's bytes. Raises ContentMismatch where bytes are missing, MediaMissing."""
        number, offset = divmod(leaf * LEAF_BYTES, PART_BYTES)
        if number != self._part:
            name = parts(self.entry)[number].name
            try:
                self._descriptor = self.opened.enter_context(self.bundle.open(BLOBS, name))
            except FileNotFoundError:
                raise ContentMismatch(detail=f"{BLOBS}/{name} ({self.entry.path}) is missing", remedy=_COPY) from None
            self._part = number
        try:
            count = read_into(self._descriptor, view, offset)
        except OSError as error:
            raise MediaMissing(
                detail=f"{self.entry.path}, leaf {leaf}: the medium gave {error.strerror or error}",
                remedy="Try again; if it fails at the same leaf, bring another copy of the bundle.",
            ) from error
        if count != len(view):
            raise _damaged(self.entry, (leaf,))


def _check_header(entry: FileEntry, read: Callable[[int, int], bytes]) -> None:
    if entry.path.startswith("weights/") and entry.path.endswith(".safetensors"):
        safetensors.read_header(entry.path, entry.size_bytes, read)


def _unique(files: Iterable[FileEntry]) -> dict[str, FileEntry]:
    """Return one entry for each content; one below weights/ where there is one, for its stricter checks."""
    ordered = sorted(files, key=lambda entry: entry.path.startswith("weights/"))
    return {entry.sha256: entry for entry in ordered}


def _differing_leaves(bundle: Bundle, entry: FileEntry, pool: Executor, meter: Meter) -> tuple[int, ...]:
    bad: list[int] = []
    with ExitStack() as opened:
        medium = _MediumFile(bundle=bundle, entry=entry, opened=opened)

        def fill(leaf: int, view: memoryview) -> None:
            meter.check()
            medium.fill(leaf, view)

        def take(leaf: int, view: memoryview, digest: str) -> None:
            if digest != entry.leaves[leaf]:
                bad.append(leaf)
            meter.add(entry.path, len(view))

        whole = hash_leaves(entry.size_bytes, fill, take, pool)
    if whole != entry.sha256 and not bad:
        bad = list(range(len(entry.leaves))) or [0]
    return tuple(bad)


def _compare_names(bundle: Bundle, files: Iterable[FileEntry]) -> Diff:
    """Compare names and sizes in blobs/ with the signed list; cheap, so it comes before any copying."""
    wanted: dict[str, tuple[FileEntry, int]] = {}
    for entry in files:
        for part in parts(entry):
            wanted.setdefault(part.name, (entry, part.size_bytes))
    missing: list[str] = []
    short: dict[str, tuple[int, ...]] = {}
    for name, (entry, size) in wanted.items():
        try:
            found = bundle.size(BLOBS, name)
        except FileNotFoundError:
            missing.append(entry.path)
            continue
        if found != size:
            short[entry.path] = tuple(range(min(found, size) // LEAF_BYTES, len(entry.leaves)))
    return Diff(
        missing=tuple(dict.fromkeys(missing)),
        extra=tuple(f"{BLOBS}/{name}" for name in bundle.names(BLOBS) if name not in wanted),
        corrupt=tuple(Corrupt(path=path, leaves=leaves) for path, leaves in short.items()),
    )


def _params_first(unique: Mapping[str, FileEntry]) -> tuple[list[FileEntry], list[FileEntry]]:
    """Two small files decide whether the pair fits; they come before the hundred gigabytes."""
    first = [entry for entry in unique.values() if entry.path.endswith("params.json")]
    return first, [entry for entry in unique.values() if entry not in first]


def _damaged(entry: FileEntry, leaves: tuple[int, ...]) -> ContentMismatch:
    where = f"leaf {_numbers(leaves)} of {len(entry.leaves)}" if leaves else "the whole file's digest"
    return ContentMismatch(detail=f"{entry.path}: {where} is not what was signed", remedy=_COPY)


def _numbers(leaves: tuple[int, ...]) -> str:
    return ", ".join(map(str, leaves[:_SHOWN])) + ("…" if len(leaves) > _SHOWN else "")


def _listed(what: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(ascii(name).strip(chr(39)) for name in names[:_SHOWN])}{more}"
