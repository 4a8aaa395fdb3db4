"""Write a bundle: from a tree of files to a folder that can be copied to any medium.

The folder appears whole or not at all (`bundles.output`). Every file is read once; its parts are
written while its leaves are hashed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bundles import model_signature, pair, safetensors
from bundles.digest import sha256_hex
from bundles.errors import ReleaseInvalid, SourceFailed
from bundles.keys import Keyring
from bundles.layout import BLOBS, FOLDERS, METADATA, RELEASE_SUFFIX, TARGETS
from bundles.manifest import check_paths, section
from bundles.output import check_room, whole_folder
from bundles.release import (
    LEAF_BYTES,
    PART_BYTES,
    BundleKind,
    FileEntry,
    PairLock,
    Release,
    release_to_bytes,
)
from bundles.signing import Expiry, propose_release, sign_release
from bundles.transfer import (
    IsCanceled,
    Meter,
    Progress,
    each,
    hash_leaves,
    never,
    read_into,
    silent,
    write_from,
)

BootstrapWriter = Callable[[Path, Release, bytes], str | None]
Describe = Callable[[tuple[FileEntry, ...]], Mapping[str, bytes]]
"""Makes more files of a release (path to bytes) from the digests of those that it has."""
README = "READ-ME-FIRST.txt"
_METADATA_ROOM_BYTES = 80 * 1024 * 1024

Fill = Callable[[memoryview, int], int]
"""Fills a view from an offset of one file; returns how many bytes there were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What was written. The two fingerprints (SHA-256, hex) are to be printed and travel on paper."""

    folder: Path
    release: Release
    size_bytes: int
    files: int
    root_fingerprint: str
    bootstrap_fingerprint: str | None
    sections: Mapping[str, int]


class Tree(Protocol):
    """Files to publish."""

    def sizes(self) -> Mapping[str, int]:
        """Return path to size in bytes."""
        ...

    def open(self, path: str) -> AbstractContextManager[Fill]:
        """Open one file for reading."""
        ...


def publish(
    tree: Path | Mapping[str, bytes],
    release: Release,
    keyring: Keyring,
    *,
    out: Path,
    expiry: Expiry | None = None,
    bootstrap: BootstrapWriter | None = None,
    progress: Progress = silent,
    is_canceled: IsCanceled = never,
    now: datetime | None = None,
    unsigned: bool = False,
    describe: Describe | None = None,
) -> BuildReport:
    """Write the signed bundle of `tree` to the folder `out`.

    `tree` is a folder, or paths with their bytes. `release` comes without files and pair: both are
    found from the tree. `now` (default: the present) is when the signatures begin. An `unsigned`
    bundle waits for its release signers (`bundles.countersigning`); the keyring needs roots alone.
    Where the keyring holds a weights key, a Model Signing signature joins the files; so does what
    `describe` makes of their digests.

    Raises OutputOccupied where `out` holds something else than a bundle, StoreFull, ReleaseInvalid,
    PairMismatch, SourceFailed when a file changes while it is read, SignatureRefused when the
    keyring cannot sign, Canceled. After any of them `out` is as it was.
    """
    source: Tree = _Folder(tree) if isinstance(tree, Path) else _Memory(dict(tree))
    with whole_folder(out) as partial:
        report = _write(
            source,
            release,
            keyring,
            partial,
            expiry or Expiry(),
            bootstrap,
            progress,
            is_canceled,
            now,
            unsigned,
            describe,
        )
    return replace(report, folder=out)


def _write(  # noqa: PLR0917  one caller, which names what it passes
    source: Tree,
    release: Release,
    keyring: Keyring,
    partial: Path,
    expiry: Expiry,
    bootstrap: BootstrapWriter | None,
    progress: Progress,
    is_canceled: IsCanceled,
    now: datetime | None,
    unsigned: bool,  # noqa: FBT001  the same
    describe: Describe | None,
) -> BuildReport:
    for folder in FOLDERS:
        (partial / folder).mkdir(parents=True)
    writer = _BlobWriter(source=source, blobs=partial / BLOBS)
    files = writer.write(progress, is_canceled)
    locked = _lock(source, files) if release.kind is BundleKind.RELEASE else None
    made = dict(describe(files)) if describe else {}
    if weights_key := keyring.weights_signer():
        made |= model_signature.signature_files(files, weights_key)
    if made:
        added = _BlobWriter(source=_Memory(made), blobs=partial / BLOBS).write(silent, is_canceled)
        files = tuple(sorted((*files, *added), key=lambda entry: entry.path))
    whole = replace(release, files=files, pair=locked)
    content = release_to_bytes(whole)
    (partial / TARGETS / f"{sha256_hex(content)}{RELEASE_SUFFIX}").write_bytes(content)
    sign = propose_release if unsigned else sign_release
    metadata = sign(content, keyring, version=release.epoch, expiry=expiry, now=now or datetime.now(UTC))
    for name, signed in metadata.items():
        (partial / METADATA / name).write_bytes(signed)
    fingerprint = bootstrap(partial, whole, metadata["1.root.json"]) if bootstrap else None
    (partial / README).write_text(_readme(whole), encoding="utf-8")
    return BuildReport(
        folder=partial,
        release=whole,
        size_bytes=sum(path.stat().st_size for path in partial.rglob("*") if path.is_file()),
        files=len(files),
        root_fingerprint=keyring.fingerprint,
        bootstrap_fingerprint=fingerprint,
        sections=_sections(files),
    )


@dataclass(slots=True, kw_only=True)
class _BlobWriter:
    """Copies a tree into `blobs/`, hashing on the way."""

    source: Tree
    blobs: Path
    entries: dict[str, FileEntry] = field(default_factory=dict)

    def write(self, progress: Progress, is_canceled: IsCanceled) -> tuple[FileEntry, ...]:
        sizes = dict(sorted(self.source.sizes().items()))
        check_paths(sizes)
        total = sum(sizes.values())
        check_room(self.blobs, total + _METADATA_ROOM_BYTES)
        meter = Meter(total=total, progress=progress, is_canceled=is_canceled)

        def one(item: tuple[int, str], pool: Executor) -> None:
            number, path = item
            self.entries[path] = self._copy(number, path, sizes[path], pool, meter)

        each(list(enumerate(sizes)), one, meter)
        return tuple(self.entries[path] for path in sizes)

    def _copy(self, number: int, path: str, size: int, pool: Executor, meter: Meter) -> FileEntry:
        """Copy one file. Its parts get their names when its digest is known: after its last byte."""
        leaves: list[str] = []
        temporary: list[Path] = []
        with self.source.open(path) as read:
            if path.startswith("weights/") and path.endswith(".safetensors"):
                safetensors.read_header(path, size, lambda offset, length: _exactly(read, path, offset, length))

            def fill(leaf: int, view: memoryview) -> None:
                meter.check()
                if read(view, leaf * LEAF_BYTES) != len(view):
                    raise _changed(path)

            def take(leaf: int, view: memoryview, digest: str) -> None:
                part, offset = divmod(leaf * LEAF_BYTES, PART_BYTES)
                if offset == 0:
                    temporary.append(self.blobs / f".{number}.p{part:03d}")
                _append(temporary[-1], view)
                leaves.append(digest)
                meter.add(path, len(view))

            sha256 = hash_leaves(size, fill, take, pool)
            if read(memoryview(bytearray(1)), size):
                raise _changed(path)
        for part, written in enumerate(temporary):
            written.replace(self.blobs / f"{sha256}.p{part:03d}")
        return FileEntry(path=path, size_bytes=size, sha256=sha256, leaves=tuple(leaves))


class _Folder:
    """A folder's regular files; anything else in it is refused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sizes(self) -> Mapping[str, int]:
        sizes = {}
        for folder, folders, names in os.walk(self._folder):
            for name in (*folders, *names):
                found = Path(folder, name)
                status = found.lstat()
                if stat.S_ISREG(status.st_mode):
                    sizes[found.relative_to(self._folder).as_posix()] = status.st_size
                elif not stat.S_ISDIR(status.st_mode):
                    raise SourceFailed(
                        detail=f"{found} is neither a regular file nor a folder",
                        remedy="Replace links by the files that they point to.",
                    )
        return sizes

    @contextmanager
    def open(self, path: str) -> Iterator[Fill]:
        descriptor = os.open(self._folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield lambda view, offset: read_into(descriptor, view, offset)
        finally:
            os.close(descriptor)


class _Memory:
    """Files that are bytes already."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def sizes(self) -> Mapping[str, int]:
        return {path: len(content) for path, content in self._files.items()}

    @contextmanager
    def open(self, path: str) -> Iterator[Fill]:
        content = memoryview(self._files[path])

        def fill(view: memoryview, offset: int) -> int:
            piece = content[offset : offset + len(view)]
            view[: len(piece)] = piece
            return len(piece)

        yield fill


def _lock(source: Tree, files: tuple[FileEntry, ...]) -> PairLock:
    sizes = {entry.path: entry.size_bytes for entry in files}
    found = {}
    for path in (pair.TARGET_PARAMS, pair.DRAFT_PARAMS):
        if not 0 < sizes.get(path, 0) <= pair.MAX_PARAMS_BYTES:
            raise ReleaseInvalid(
                detail=f"{path} is missing, empty or larger than {pair.MAX_PARAMS_BYTES:,} bytes",
                remedy="Take both models in Mistral's native layout, which has a params.json.",
            )
        with source.open(path) as read:
            found[path] = _exactly(read, path, 0, sizes[path])
    locked = pair.lock(files, target_params=found[pair.TARGET_PARAMS], draft_params=found[pair.DRAFT_PARAMS])
    pair.check_weights(files, locked, header=lambda entry: _header(source, entry.path, entry.size_bytes))
    return locked


def _header(source: Tree, path: str, size: int) -> tuple[safetensors.TensorEntry, ...]:
    with source.open(path) as read:
        return safetensors.read_header(path, size, lambda offset, length: _exactly(read, path, offset, length))


def _exactly(read: Fill, path: str, offset: int, length: int) -> bytes:
    content = bytearray(length)
    if read(memoryview(content), offset) != length:
        raise _changed(path)
    return bytes(content)


def _changed(path: str) -> SourceFailed:
    return SourceFailed(
        detail=f"{path} changed while it was read", remedy="Stop whatever writes there, then build again."
    )


def _append(path: Path, view: memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        write_from(descriptor, view, os.lseek(descriptor, 0, os.SEEK_END))
    finally:
        os.close(descriptor)


def _sections(files: tuple[FileEntry, ...]) -> Mapping[str, int]:
    sizes: dict[str, int] = {}
    for entry in files:
        sizes[section(entry.path)] = sizes.get(section(entry.path), 0) + entry.size_bytes
    return sizes


def _readme(release: Release) -> str:
    lines = [
        f"Leeward {release.kind} bundle: {release.name} {release.version}, epoch {release.epoch}",
        f"Made at {release.created_at:%Y-%m-%d %H:%M} UTC; {len(release.files)} files, {release.size_bytes:,} bytes.",
        "",
        "This text is for people. It is not signed: do not trust fingerprints that stand on the same medium.",
        "The fingerprints come on paper or by telephone, from someone whom you know.",
        "",
    ]
    if release.kind is BundleKind.RELEASE:
        lines += [
            "On a new node, as root:",
            "  sha256sum bootstrap      compare all 64 characters with the paper, two people reading",
            "  sh bootstrap             installs the appliance; nothing before this line runs anything from here",
            "On a node with Leeward:",
            "  leeward install          and name this folder",
        ]
    lines += ["To verify only:", "  leeward bundle verify . --root-fingerprint <64 characters from the paper>", ""]
    return "\n".join(lines)
