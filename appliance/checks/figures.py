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


def pace(bytes_per_s: float) -> str:
    """Return a pace in GB/s, or in MB/s below a tenth of that."""
    return f"{bytes_per_s / _GB:,.1f} GB/s" if bytes_per_s >= _GB / 10 else f"{bytes_per_s / 1e6:,.0f} MB/s"


def duration(seconds: float) -> str:
    """Return a duration in the unit that people would use for it."""
    if seconds < 120:  # noqa: PLR2004  below two minutes people count seconds
        return f"{seconds:.0f} s"
    if seconds < 7200:  # noqa: PLR2004  below two hours people count minutes
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
