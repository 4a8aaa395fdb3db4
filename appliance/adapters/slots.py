"""Slots on disk: one folder per imported release, and two symbolic links.

`current` names the active slot, `next` the one that was imported last and waits for it. Links are
relative, changed by making a new one under another name and renaming it, and made durable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from appliance.domain.errors import NotFound
from bundles.errors import StoreUnusable
from bundles.release import Release, release_from_bytes

CURRENT = "current"
NEXT = "next"
MANIFEST = "release.json"


class SlotFolder:
    """`appliance.ports.Slots` as a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def current(self) -> str | None:
        """Return the name of the active slot."""
        return self._named(CURRENT)

    def pending(self) -> str | None:
        """Return the slot that waits to be activated."""
        return self._named(NEXT)

    def activated_at(self) -> datetime | None:
        """Return when `current` was last changed."""
        try:
            return datetime.fromtimestamp((self._folder / CURRENT).lstat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    def await_activation(self, slot: str) -> None:
        """Point `next` at a slot."""
        self._point(NEXT, slot)

    def activate(self, slot: str) -> None:
        """Point `current` at a slot, then drop `next` where it names the same."""
        if self.current() != slot:
            self._point(CURRENT, slot)
        if self.pending() == slot:
            with _storing(self._folder):
                (self._folder / NEXT).unlink()
                _make_durable(self._folder)

    def path(self, slot: str) -> Path:
        """Return a slot's folder."""
        return self._folder / slot

    def release(self, slot: str) -> Release:
        """Read a slot's manifest; raises NotFound, or ReleaseInvalid where it is damaged."""
        try:
            content = (self._folder / slot / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(
                detail=f"{self._folder / slot} holds no {MANIFEST}.", remedy="Import the release from its medium again."
            ) from error
        return release_from_bytes(content)

    def _named(self, link: str) -> str | None:
        try:
            return Path((self._folder / link).readlink()).name
        except OSError:
            return None

    def _point(self, link: str, slot: str) -> None:
        self.release(slot)
        fresh = self._folder / f".{link}.new"
        with _storing(self._folder):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(slot)
            fresh.replace(self._folder / link)
            _make_durable(self._folder)


@contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnusable(
            detail=f"a link in {folder} could not be changed: {error}",
            remedy=f"Look at the file system of {folder} (`journalctl -k`), then start the operation again.",
        ) from error


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
