"""Figures as people read them: versions and sizes."""

from __future__ import annotations

import re
from typing import Final

_GB: Final = 10**9


def version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, empty where there are none: `6.1.0-41-amd64` is (6, 1, 0)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in match.group().split(".")) if match else ()


def gigabytes(size_bytes: int) -> str:
    """Return a size in GB (10⁹ bytes), to a tenth."""
    return f"{size_bytes / _GB:,.1f} GB"
