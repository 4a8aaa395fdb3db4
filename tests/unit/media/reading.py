"""Read, import and spoil media in tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from bundles.digest import sha256_hex
from bundles.media.opening import open_media
from bundles.media.taking import import_media
from bundles.release import LEAF_BYTES, FileEntry, Release
from tests.support.small_bundles import NOW
from tests.unit.bundles.site import Site


def content(entry: FileEntry, media: Iterable[Path], release: Release) -> bytes:
    """Read one file as an import does: asking for other bytes until the leaf is right."""
    blobs = open_media(list(media)).blobs(release)
    found = b""
    with blobs.opened(entry) as reader:
        for number, digest in enumerate(entry.leaves):
            view = memoryview(bytearray(min(LEAF_BYTES, entry.size_bytes - number * LEAF_BYTES)))
            reader.fill(number, view)
            while sha256_hex(view) != digest:
                assert reader.repair(number, view), f"leaf {number} of {entry.path}"
            found += view
    return found


def take(site: Site, *media: Path) -> Path:
    """Import as an operation does."""
    opened = open_media(media)
    verified = opened.check(site.trust, now=NOW)
    slot = import_media(opened, verified, **site.places())
    verified.commit()
    return slot


def same_as_signed(slot: Path, release: Release) -> bool:
    """Whether a slot holds all files of a release, byte for byte."""
    return all(sha256_hex((slot / entry.path).read_bytes()) == entry.sha256 for entry in release.files)


def copied(volume: Path, to: Path) -> Path:
    shutil.copytree(volume, to)
    return to
