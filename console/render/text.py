"""The small pieces that every line is made of: words, bars, sparklines, numbers, columns.

A state is a word first (`ok WARN FAIL ?? busy --`), colour second, never a glyph alone. What is
not known is `??`; what does not apply is `--`; neither is ever drawn as zero.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime

from textual.content import Content

from appliance.domain.health import Severity
from console.capabilities import Capabilities

UNKNOWN = "??"
NOT_APPLICABLE = "--"

OK = Content.styled(" ok ", "$success")
WARN = Content.styled("WARN", "bold $warning")
FAIL = Content.styled("FAIL", "bold reverse $error")
STALE = Content.styled(" ?? ", "$warning")
OFF = Content.styled(" -- ", "$mute")
BUSY = Content.styled("busy", "bold $primary")

WORDS = {Severity.OK: OK, Severity.WARN: WARN, Severity.FAIL: FAIL}


def bar(fraction: float | None, width: int, capabilities: Capabilities) -> Content:
    """Draw a share of one as a bar of `width` cells; an unknown share is blank."""
    if fraction is None:
        return Content(" " * width)
    glyphs = capabilities.glyphs
    filled = round(max(0.0, min(1.0, fraction)) * width)
    return Content.assemble((glyphs.filled * filled, "$bar-on"), (glyphs.empty * (width - filled), "$edge"))


def spark(
    values: Sequence[float | None], width: int, capabilities: Capabilities, *, highest: float | None = None
) -> Content:
    """Draw the newest `width` values, newest at the right; a gap is a blank cell.

    `highest` is the value of a full cell; without it the largest value shown is.
    """
    shown = list(values[-width:]) if width > 0 else []
    top = highest or max((v for v in shown if v is not None), default=0) or 1
    ramp = capabilities.glyphs.ramp
    cells = [" " if v is None else ramp[min(len(ramp) - 1, int(max(v, 0) / top * len(ramp)))] for v in shown]
    return Content.styled("".join(cells).rjust(width), "$spark")


def fit(text: str, width: int) -> str:
    """Pad to `width` cells on the right, or cut with an ellipsis."""
    return text.ljust(width) if len(text) <= width else text[: max(0, width - 1)] + "…"


def pad(content: Content, width: int) -> Content:
    """Pad a styled piece to `width` cells, or cut it with an ellipsis."""
    return content.truncate(width, ellipsis=True, pad=True)


def labelled(label: str, sentence: str, width: int, *, style: str = "") -> list[Content]:
    """Set a sentence beside a quiet label of eight columns; what wraps stays beside it."""
    lines = textwrap.wrap(sentence, max(20, width - 9)) or [""]
    return [
        Content.assemble(muted(f"{label if place == 0 else '':<9}"), (line, style)) for place, line in enumerate(lines)
    ]


def ends(left: Content, right: Content, width: int) -> Content:
    """Set one piece at each end of a line; where both do not fit, the left one wins."""
    gap = width - left.cell_length - right.cell_length
    return Content.assemble(left, " " * gap, right) if gap > 0 else left.truncate(width, ellipsis=True)


def number(value: float | None, *, digits: int = 0) -> str:
    """Write a number, or `??`."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def per_cent(value: float | None) -> str:
    """Write a percentage of 0 to 100, or `??`."""
    return f"{number(value)} %"


def gigabytes(count_bytes: int | None) -> str:
    """Write bytes as GB (10⁹), whole above ten."""
    if count_bytes is None:
        return UNKNOWN
    value = count_bytes / 1e9
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"  # noqa: PLR2004  a readable width


def size(count_bytes: int | None) -> str:
    """Write bytes in the unit that keeps three figures; units are powers of ten."""
    if count_bytes is None:
        return UNKNOWN
    value = float(count_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004  the step of SI prefixes
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"  # noqa: PLR2004  three figures
        value /= 1000
    return f"{value:.1f} TB"


def short(count: int) -> str:
    """Write a count in three figures: 999, 12.3k, 4.56M."""
    value, unit = float(count), ""
    for larger in ("k", "M", "G", "T"):
        if value < 999.5:  # noqa: PLR2004  what rounds to four figures takes the next unit
            break
        value, unit = value / 1000, larger
    digits = 0 if not unit or value >= 99.95 else 1 if value >= 9.995 else 2  # noqa: PLR2004  three figures
    return f"{value:.{digits}f}{unit}"


def milliseconds(value_s: float | None) -> str:
    """Write seconds as milliseconds, with one decimal below a hundred."""
    if value_s is None:
        return UNKNOWN
    value = value_s * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004  three figures


def said(sentence: str, capabilities: Capabilities) -> str:
    """Return the daemon's own words in characters that the terminal has, where a like-for-like swap reads badly."""
    return sentence.replace("°C", capabilities.glyphs.degree)


def clock(at: datetime | None) -> str:
    """Write the time of day in UTC."""
    return UNKNOWN if at is None else f"{at:%H:%M:%SZ}"


def minutes(seconds: float | None) -> str:
    """Write a duration as m:ss, or h:mm:ss from an hour on."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def days(seconds: float | None) -> str:
    """Write a long duration in days and hours:minutes."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02}:{whole % 3600 // 60:02}"


def muted(text: str) -> Content:
    """Set a label or a note in the quiet colour."""
    return Content.styled(text, "$mute")
