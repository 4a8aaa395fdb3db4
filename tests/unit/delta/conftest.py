from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundles.delta.inventory import Inventory
from bundles.delta.rebuild import DeltaBlobs, open_delta
from bundles.delta.take import take_inventory
from bundles.delta.write import DeltaReport, write_delta
from bundles.keys import Keyring
from bundles.layout import Bundle, open_bundle
from bundles.media.opening import open_media
from bundles.media.taking import import_media
from bundles.release import LEAF_BYTES, FileEntry
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle
from tests.unit.bundles.site import Site

SHARD = "weights/target/consolidated.safetensors"


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring.create(tmp_path_factory.mktemp("publisher") / "keys", now=NOW)


@pytest.fixture
def site(tmp_path: Path, keyring: Keyring) -> Site:
    return Site.trusting(tmp_path / "site", keyring)


@dataclass(frozen=True, slots=True)
class Journey:
    """A publisher, a site, and the media between them."""

    folder: Path
    site: Site
    keyring: Keyring

    def release(self, files: Mapping[str, bytes], *, epoch: int = 1) -> Bundle:
        """Publish the usual small release with `files` over it."""
        release = blank_release(epoch=epoch, version=f"26.11.{epoch}")
        out = self.folder / f"bundle-{epoch}"
        return open_bundle(write_bundle(out, self.keyring, release=release, files=tree() | files).folder)

    def inventory(self) -> Inventory:
        return take_inventory(store=self.site.folder / "store", slots=self.site.folder / "slots", node="n1", now=NOW)

    def delta(
        self, bundle: Bundle, inventory: Inventory | None = None, *, bases: tuple[Bundle, ...] = ()
    ) -> DeltaReport:
        return write_delta(bundle, inventory or self.inventory(), out=self.folder / "delta", bases=bases)

    def open(self, report: DeltaReport) -> DeltaBlobs:
        blobs = open_delta(open_bundle(report.folder), self.site.folder / "store")
        assert blobs is not None
        return blobs

    def import_delta(self, folder: Path) -> Path:
        """Do all that an import does, in its order."""
        media = open_media([folder])
        verified = media.check(self.site.trust, now=NOW)
        slot = import_media(media, verified, **self.site.places())
        verified.commit()
        return slot

    def stored(self, sha256: str) -> Path:
        return self.site.folder / "store" / "sha256" / sha256[:2] / sha256


@pytest.fixture
def journey(tmp_path: Path, site: Site, keyring: Keyring) -> Journey:
    return Journey(tmp_path, site, keyring)


def content_of(blobs: DeltaBlobs, entry: FileEntry) -> bytes:
    """Put a whole file together, as an importer does."""
    content = bytearray(entry.size_bytes)
    with blobs.opened(entry) as reader:
        for leaf in range(len(entry.leaves)):
            reader.fill(leaf, memoryview(content)[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES])
    return bytes(content)
