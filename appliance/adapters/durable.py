"""Small files of the daemon that are there whole or not at all, whenever the power goes."""

from __future__ import annotations

import os
from pathlib import Path

from bundles.transfer import fsync_folder


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file that only root reads, unless `mode` lets others; replace what is there; durable on return.

    Makes the folder, for root alone, where it is missing. Raises OSError.
    """
    fresh = path.with_name(f"{path.name}.new")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask is
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    fsync_folder(path.parent)
