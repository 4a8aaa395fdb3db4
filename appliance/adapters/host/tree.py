"""A node's files under a root, so that a copied tree can be read like a node.

What is not there or cannot be read is `None`; nothing here raises for that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MAXIMUM_BYTES = 64 * 2**20
"""More than any file of /proc, /sys, /etc or dpkg's database has; a larger one is cut."""

_CHUNK_BYTES = 65_536
"""Files of /proc/sys refuse larger readings (ENOMEM)."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The file tree of a node; paths are given without the leading slash."""

    root: Path

    def path(self, relative: str) -> Path:
        """Return where a path of the node lies."""
        return self.root / relative.lstrip("/")

    def read(self, relative: str) -> bytes | None:
        """Return a file's content."""
        content = bytearray()
        try:
            with self.path(relative).open("rb", buffering=0) as file:
                while len(content) < MAXIMUM_BYTES and (chunk := file.read(_CHUNK_BYTES)):
                    content += chunk
        except OSError:
            return None
        return bytes(content)

    def text(self, relative: str) -> str | None:
        """Return a file's content as text."""
        content = self.read(relative)
        return None if content is None else content.decode(errors="replace")

    def word(self, relative: str) -> str | None:
        """Return a file's only line without white space around it."""
        content = self.text(relative)
        return None if content is None else content.strip()

    def number(self, relative: str) -> int | None:
        """Return the number that is all of a file."""
        word = self.word(relative)
        try:
            return None if word is None else int(word)
        except ValueError:
            return None

    def names(self, relative: str) -> tuple[str, ...] | None:
        """Return the names in a folder, sorted."""
        try:
            return tuple(sorted(entry.name for entry in self.path(relative).iterdir()))
        except OSError:
            return None

    def exists(self, relative: str) -> bool:
        """Return whether something is there; a broken link is nothing."""
        try:
            return self.path(relative).exists()
        except OSError:
            return False

    def link(self, relative: str) -> str | None:
        """Return what a symbolic link names."""
        try:
            return os.readlink(self.path(relative))  # noqa: PTH115  pathlib would tidy the text
        except OSError:
            return None
