"""A view as a text file of the person at the console: made new, never in the place of another."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from appliance.domain.errors import ViewNotWritten


def write_view(folder: Path, *, node: str, screen: str, at: datetime, lines: Sequence[str]) -> Path:
    """Write lines to a new file that only its owner reads; return its path. Raises ViewNotWritten."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{node}-{screen}".lower()).strip("-")
    path = folder / f"leeward-{words}-{at:%Y%m%dT%H%M%SZ}.txt"
    text = "\n".join([f"{node}, {screen}, {at:%Y-%m-%d %H:%M:%SZ}", "", *(line.rstrip() for line in lines), ""])
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ViewNotWritten(
            detail=f"{path}: {error.strerror}.",
            remedy="Press w again in a second, or start leeward-console with --write-to and a folder of yours.",
        ) from error
    return path
