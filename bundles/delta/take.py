"""Take the inventory of a node's store, by reading every file that its slots' releases name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from datetime import datetime
from pathlib import Path

from bundles.delta.chunks import hash_cut
from bundles.delta.inventory import SCHEMA, Chunk, HeldFile, HeldRelease, Inventory, chunk_collector
from bundles.digest import sha256_hex
from bundles.errors import MediaMissing, ReleaseInvalid
from bundles.release import MAX_RELEASE_BYTES, FileEntry, Release, release_from_bytes
from bundles.store import MANIFEST, Store
from bundles.transfer import IsCanceled, Meter, Progress, each, never, read_into, silent


def take_inventory(
    *,
    store: Path,
    slots: Path,
    node: str,
    now: datetime,
    progress: Progress = silent,
    is_canceled: IsCanceled = never,
) -> Inventory:
    """Return what the store at `store` holds of the releases in `slots`; reads all of it, changes nothing.

    A file that is missing, unreadable or not what its release says is listed as damaged. Raises
    MediaMissing where a slot cannot be read, ReleaseInvalid or PairMismatch where its manifest
    breaks the rules, Canceled.
    """
    releases = list(_releases(slots))
    entries = {entry.sha256: entry for _, release in releases for entry in release.files}
    meter = Meter(total=sum(entry.size_bytes for entry in entries.values()), progress=progress, is_canceled=is_canceled)
    found: dict[str, HeldFile] = {}
    content = Store(store / "sha256")

    def one(entry: FileEntry, pool: Executor) -> None:
        file = _held(content, entry, meter, pool)
        if file is not None:
            found[entry.sha256] = file

    each(entries.values(), one, meter)
    return Inventory(
        schema=SCHEMA,
        node=node,
        created_at=now,
        releases=tuple(held for held, _ in releases),
        damaged=tuple(sorted(entries.keys() - found.keys())),
        files=tuple(sorted(found.values(), key=lambda file: (file.path, file.sha256))),
    )


def _releases(slots: Path) -> Iterator[tuple[HeldRelease, Release]]:
    try:
        manifests = sorted(path / MANIFEST for path in slots.iterdir() if path.is_dir() and not path.is_symlink())
        for path in manifests:
            if path.parent.name.startswith("."):
                continue  # a slot that is being built
            with path.open("rb") as stream:
                content = stream.read(MAX_RELEASE_BYTES + 1)
            yield (
                HeldRelease(slot=path.parent.name, release_sha256=sha256_hex(content)),
                release_from_bytes(content),
            )
    except OSError as error:
        raise MediaMissing(
            detail=f"{error.filename or slots} cannot be read: {error.strerror or error}",
            remedy="Name the node's folder of slots with `--slots`, and read it as root.",
        ) from error


def _held(store: Store, entry: FileEntry, meter: Meter, pool: Executor) -> HeldFile | None:
    chunks: list[Chunk] = []
    with store.opened(entry) as descriptor:
        if descriptor is None:
            return None
        try:
            found = hash_cut(
                entry.path,
                entry.size_bytes,
                lambda view, offset: read_into(descriptor, view, offset),
                chunk_collector(entry, chunks, meter),
                pool,
            )
        except (OSError, ReleaseInvalid):  # a bad sector, or a header that no longer parses
            return None
    if found != entry.sha256:
        return None
    return HeldFile(path=entry.path, size_bytes=entry.size_bytes, sha256=entry.sha256, chunks=tuple(chunks))
