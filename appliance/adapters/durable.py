"""Small files of root that are there whole or not at all, whenever the power goes."""

from __future__ import annotations

import os
from pathlib import Path

from bundles.transfer import fsync_folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that only root reads and replace what is there; durable when this returns.

    Makes the folder, for root alone, where it is missing. Raises OSError.
    """
    fresh = path.with_name(f"{path.name}.new")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    fsync_folder(path.parent)
