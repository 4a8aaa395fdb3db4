"""A site that imports from media, and hands that spoil a medium."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundles import codec
from bundles.digest import sha256_hex
from bundles.keys import Keyring
from bundles.layout import BLOBS, METADATA, RELEASE_SUFFIX, TARGETS, open_bundle, peek
from bundles.release import SCHEMA, Release
from bundles.signing import Expiry, sign_release
from bundles.trust import Policy, TrustStore
from bundles.verify import import_release
from tests.support.small_bundles import NOW


@dataclass(frozen=True, slots=True)
class Site:
    """A node's folders, with trust in one publisher."""

    folder: Path

    @classmethod
    def trusting(cls, folder: Path, keyring: Keyring) -> Site:
        site = cls(folder)
        site.trust.anchor(keyring.roots()[0], keyring.fingerprint)
        return site

    @property
    def trust(self) -> TrustStore:
        return TrustStore(self.folder / "trust")

    def import_(self, medium: Path, *, now: datetime = NOW) -> Path:
        """Do all that an import does, in its order."""
        bundle = open_bundle(medium)
        verified = self.trust.check(bundle, now=now)
        slot = import_release(bundle, verified, **self.places())
        verified.commit()
        return slot

    def places(self) -> dict[str, Path]:
        return {name: self.folder / name for name in ("store", "slots", "staging")}

    def slots(self) -> list[str]:
        """Everything in slots/, unfinished ones too."""
        slots = self.folder / "slots"
        return sorted(entry.name for entry in slots.iterdir()) if slots.exists() else []

    def stored(self) -> list[Path]:
        return sorted(path for path in (self.folder / "store").rglob("*") if path.is_file())

    @property
    def policy(self) -> Policy | None:
        return self.trust.policy


def blob_of(medium: Path, path: str, part: int = 0) -> Path:
    """Return where a file's part lies on the medium."""
    entry = peek(open_bundle(medium)).file(path)
    return medium / BLOBS / f"{entry.sha256}.p{part:03d}"


def flip_bit(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def resign(
    medium: Path, release_json: bytes, keyring: Keyring, *, version: int = 1, expiry: Expiry | None = None
) -> None:
    """Put another manifest on the medium and sign it, as a publisher with real keys could."""
    for folder in (METADATA, TARGETS):
        for old in (medium / folder).iterdir():
            old.unlink()
    (medium / TARGETS / f"{sha256_hex(release_json)}{RELEASE_SUFFIX}").write_bytes(release_json)
    files = sign_release(release_json, keyring, version=version, expiry=expiry or Expiry(), now=NOW)
    for name, content in files.items():
        (medium / METADATA / name).write_bytes(content)


def canonical(release: Release) -> bytes:
    """Return a release's bytes without checking any rule."""
    plain = codec.to_plain(release)
    assert isinstance(plain, dict)
    return codec.canonical_json({"schema": SCHEMA, **plain})


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
