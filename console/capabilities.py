"""What the terminal can show, decided by us from its name, its line and its locale.

Textual never asks what a terminal can do, so the console chooses one of four output profiles
before it starts:

    rich     SSH or tmux with a UTF-8 locale: all glyphs, all colours
    vt       the Linux console: 16 colours, the glyphs that its fonts have
    serial   a serial line, a vt100's kin, or a locale that is not UTF-8: ASCII, 16 colours
    none     no terminal, or a dumb one: plain text, once

Pure: everything arrives as an argument. `NO_COLOR` (https://no-color.org) takes the colour out of
any profile and leaves bold, underline and reverse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SERIAL_LINES = re.compile(r"/dev/(ttyS|ttyAMA|ttyUSB|hvc)\d+$")
SERIAL_TERMINALS = frozenset({"ansi", "vt100", "vt102", "vt220"})
DUMB_TERMINALS = frozenset({"", "dumb", "unknown"})


class Profile(StrEnum):
    RICH = "rich"
    VT = "vt"
    SERIAL = "serial"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """The characters that carry meaning; every other one is translated on its way out."""

    ramp: str
    filled: str
    empty: str
    done: str
    now: str
    ahead: str
    degree: str


GLYPHS = {
    # A block would read as its opposite in a row that is shown in reverse; the lines do not.
    # The ramp ends below the full block, so that stacked rows never merge.
    Profile.RICH: Glyphs(ramp="▁▂▃▄▅▆▇", filled="━", empty="─", done="✓", now="▶", ahead="·", degree="°C"),
    Profile.VT: Glyphs(ramp="_.-=+*%#", filled="═", empty="─", done="*", now=">", ahead=".", degree="°C"),
    Profile.SERIAL: Glyphs(ramp="_.-=+*%#", filled="#", empty=".", done="*", now=">", ahead=".", degree="C"),
    Profile.NONE: Glyphs(ramp="_.-=+*%#", filled="#", empty=".", done="*", now=">", ahead=".", degree="C"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """One terminal: its profile and whether it may be sent colour."""

    profile: Profile
    color: bool = True

    @property
    def glyphs(self) -> Glyphs:
        """Return the characters that this terminal has."""
        return GLYPHS[self.profile]

    @property
    def refresh_s(self) -> float:
        """Return the seconds between two looks at the node; a slow line gets fewer."""
        return 5.0 if self.profile is Profile.SERIAL else 1.0

    @property
    def stale_after_s(self) -> float:
        """Return the age in seconds from which an observation is called old."""
        return 5.0 + self.refresh_s


def choose(
    environ: Mapping[str, str], *, tty: str | None, forced: Profile | None = None, plain: bool = False
) -> Capabilities:
    """Choose the profile for a terminal.

    `tty` is the device behind standard output, or `None` where that is no terminal. A `forced`
    profile beats every guess, but nothing makes a screen where there is no terminal.
    """
    color = not environ.get("NO_COLOR")
    if plain or tty is None or forced is Profile.NONE:
        return Capabilities(profile=Profile.NONE, color=color)
    if forced is not None:
        return Capabilities(profile=forced, color=color)
    terminal = environ.get("TERM", "")
    if terminal in DUMB_TERMINALS:
        return Capabilities(profile=Profile.NONE, color=color)
    if terminal in SERIAL_TERMINALS or SERIAL_LINES.match(tty) or not _speaks_utf8(environ):
        return Capabilities(profile=Profile.SERIAL, color=color)
    return Capabilities(profile=Profile.VT if terminal == "linux" else Profile.RICH, color=color)


def _speaks_utf8(environ: Mapping[str, str]) -> bool:
    # Python turns the C locale into UTF-8 for itself; the terminal at the other end does not follow.
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    return "utf-8" in locale.lower() or "utf8" in locale.lower()
