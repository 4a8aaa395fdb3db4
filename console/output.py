"""The way out to the terminal: changed cells only, in characters that the terminal has.

Textual resends whole widgets; on a serial line at 115200 baud a dashboard saturates the line and a
key takes seconds to answer. `LeanOutput` keeps the last screen sent and sends the cells that
differ. It hooks one private method, `App._display`, so it works with exactly the Textual it was
tested with and steps aside for every other; a differential test compares the two cell by cell.
While the terminal has not read the last frame, frames are dropped: the next difference covers them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import textual
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.color import Color
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import LineFilter

from console.capabilities import Profile

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.screen import Screen

TESTED_TEXTUAL = "8.2.8"
RETRY_S = 0.05

_LIKENESSES = {
    "+": "╭╮╰╯┌┐└┘├┤┬┴┼╔╗╚╝▅",
    "-": "─━═╌╸╺▃—–",  # noqa: RUF001  the en dash itself
    "|": "│┃║▏▎▍▌▋▊▉▐▕",
    "_": "▁▂",
    "=": "▄",
    "*": "▆●•",
    "#": "▇█▀▔■▪",
    ".": "░·…□",
    ":": "▒▓",
    "v": "✓✔▼↓",
    "x": "✗✖×",  # noqa: RUF001  the multiplication sign itself
    "^": "▲↑",
    ">": "▶→≥",
    "<": "◀←≤",
    "o": "○◉",
    "~": "⏎",
    " ": "°\u00a0",
}
_ASCII = {ord(glyph): likeness for likeness, glyphs in _LIKENESSES.items() for glyph in glyphs}
# Kept: what Debian's console fonts have (Lat15 and Uni2 Fixed, Terminus, VGA).
_VT_HAS = frozenset("┌┐└┘├┤┬┴┼─│═█░▒▲▼▶◀●·…↑↓←→°×■")  # noqa: RUF001  the multiplication sign itself
_VT = {code: glyph for code, glyph in _ASCII.items() if chr(code) not in _VT_HAS} | str.maketrans("╭╮╰╯━┃", "┌┐└┘─│")

_ERASE_WORTH = 4
_STEP_WORTH = 3


class GlyphFilter(LineFilter):
    """Translates every widget's characters into those that the profile's terminals have."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(enabled=profile in (Profile.VT, Profile.SERIAL))
        self.profile = profile

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments in the profile's characters; widths stay."""
        del background
        return [Segment(self.translate(text), style, control) for text, style, control in segments]

    def translate(self, text: str) -> str:
        """Return `text` in the profile's characters; in ASCII, what has no likeness is `?`."""
        if text.isascii():
            return text
        if self.profile is Profile.VT:
            return text.translate(_VT)
        return "".join(c if c.isascii() else "?" * cell_len(c) for c in text.translate(_ASCII))


class QuietDriver(LinuxDriver):
    """Sends no query and no mode that a plain terminal could print as letters."""

    _UNASKED = frozenset({"\x1b[?1004h", "\x1b[?1004l", "\x1b[<u", "\x1b[?2004h", "\x1b[?2004l"})

    def write(self, data: str) -> None:
        """Write, except for the modes that are of no use here."""
        if data not in self._UNASKED:
            super().write(data)

    def _request_terminal_sync_mode_support(self) -> None:
        """Ask nothing."""

    def _query_in_band_window_resize(self) -> None:
        """Ask nothing."""


class Cell(NamedTuple):
    """One cell of the screen; the right half of a wide character has no text."""

    text: str
    style: Style | None


class CellDiff:
    """Turns screens into the bytes that change a terminal from the last one to the next."""

    def __init__(self, color_system: ColorSystem | None) -> None:
        self._color_system = color_system
        self._front: list[list[Cell]] = []
        self._codes: dict[Style | None, str] = {None: "\x1b[0m"}

    def forget(self) -> None:
        """Send everything next time: someone else has written to the terminal."""
        self._front = []

    def update(self, rows: list[list[Cell]]) -> str:
        """Return what to send for `rows`, and remember them as sent."""
        same_shape = [len(row) for row in self._front] == [len(row) for row in rows]
        pen = _Pen()
        for y, row in enumerate(rows):
            before = self._front[y] if same_shape else None
            if before != row:
                self._row(pen, y, row, before)
        self._front = rows
        return pen.finished()

    def _row(self, pen: _Pen, y: int, row: list[Cell], before: list[Cell] | None) -> None:
        blank_from = self._blank_from(row)
        x = 0
        while x < len(row):
            if x >= blank_from:
                if before is None or before[x:] != row[x:]:
                    pen.move(y, x)
                    pen.style(self._code(row[x].style))
                    pen.erase_to_end()
                return
            if before is not None and before[x] == row[x]:
                x += 1
                continue
            self._approach(pen, y, x, row)
            pen.style(self._code(row[x].style))
            pen.put(row[x].text)
            x += 1
        # At the right edge a terminal's cursor stays in or wraps from the last column: unknown.
        pen.lose_place()

    def _approach(self, pen: _Pen, y: int, x: int, row: list[Cell]) -> None:
        """Get to a cell nearby by writing the few unchanged cells between, where that is shorter."""
        gap = pen.gap_to(y, x)
        between = row[x - gap : x] if gap is not None else []
        if 0 < len(between) <= _STEP_WORTH and all(self._code(cell.style) == pen.current for cell in between):
            pen.put("".join(cell.text for cell in between), cells=len(between))
        else:
            pen.move(y, x)

    def _blank_from(self, row: list[Cell]) -> int:
        """Return where a run of plain spaces begins that an erase-to-end can draw."""
        last = row[-1].style if row else None
        if last is not None and (last.underline or last.reverse or last.strike):
            return len(row)
        start = len(row)
        while start and row[start - 1] == Cell(" ", last):
            start -= 1
        return start if len(row) - start > _ERASE_WORTH else len(row)

    def _code(self, style: Style | None) -> str:
        if style not in self._codes:
            self._codes[style] = _sgr(style, self._color_system)
        return self._codes[style]


class _Pen:
    """The terminal's cursor and colours while one frame is written."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._place: tuple[int, int] | None = None
        self.current: str | None = None

    def gap_to(self, y: int, x: int) -> int | None:
        if self._place is None or self._place[0] != y or self._place[1] > x:
            return None
        return x - self._place[1]

    def move(self, y: int, x: int) -> None:
        gap = self.gap_to(y, x)
        if gap is None:
            self._out.append(f"\x1b[{y + 1};{x + 1}H")
        elif gap:
            self._out.append(f"\x1b[{gap}C" if gap > 1 else "\x1b[C")
        self._place = (y, x)

    def style(self, code: str) -> None:
        if code != self.current:
            self._out.append(code)
            self.current = code

    def put(self, text: str, cells: int = 1) -> None:
        self._out.append(text)
        if self._place is not None:
            self._place = (self._place[0], self._place[1] + cells)

    def erase_to_end(self) -> None:
        self._out.append("\x1b[K")

    def lose_place(self) -> None:
        self._place = None

    def finished(self) -> str:
        return "".join((*self._out, "\x1b[0m")) if self._out else ""


def _sgr(style: Style | None, color_system: ColorSystem | None) -> str:
    """Return the sequence that sets exactly this style; ECMA-48, section 8.3.117."""
    if style is None:
        return "\x1b[0m"
    flags = (style.bold, style.dim, style.italic, style.underline, style.blink, None, style.reverse, None, style.strike)
    codes = [str(number) for number, is_set in enumerate(flags, start=1) if is_set]
    for color, foreground in ((style.color, True), (style.bgcolor, False)):
        # After a reset the default colour needs no code, so a monochrome screen has none at all.
        if color is not None and not color.is_default and color_system is not None:
            codes.extend(color.downgrade(color_system).get_ansi_codes(foreground=foreground))
    return f"\x1b[0;{';'.join(codes)}m" if codes else "\x1b[0m"


def cells_of(screen: Screen[object]) -> list[list[Cell]]:
    """Return the screen's cells as Textual composes them."""
    rows = []
    for strip in screen._compositor.render_strips():  # noqa: SLF001  the one private look inside
        row: list[Cell] = []
        for text, style, control in strip:
            if control:
                continue
            for character in text:
                row.append(Cell(character, style))
                row.extend([Cell("", style)] * (cell_len(character) - 1))
        rows.append(row)
    return rows


class LeanOutput(App[None]):
    """An App that sends changed cells only, where that was tested; else Textual's own way."""

    lean_wanted = True
    _diff: CellDiff | None = None
    _catch_up_due = False

    @property
    def is_lean(self) -> bool:
        """Whether our own output layer draws."""
        return self.lean_wanted and textual.__version__ == TESTED_TEXTUAL and not self.is_headless

    def redraw(self) -> None:
        """Send the whole screen again: the terminal may show something else by now."""
        if self._diff is not None:
            self._diff.forget()
        self.screen.refresh(layout=True)

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        driver = self._driver
        ready = self._running and not self._closed and driver is not None and not self._batch_count
        if not (self.is_lean and ready and isinstance(renderable, CompositorUpdate) and screen is self.screen):
            super()._display(screen, renderable)
            return
        if isinstance(driver, LinuxDriver) and self._is_backed_up(driver):
            if not self._catch_up_due:
                self._catch_up_due = True
                self.set_timer(RETRY_S, self._catch_up)
            return
        if self._diff is None:
            self._diff = CellDiff(self.console._color_system)  # noqa: SLF001  rich gives only its name in public
        changed = self._diff.update(cells_of(screen))
        if changed and driver is not None:
            driver.write(changed)
            driver.flush()
        self.post_display_hook()

    @staticmethod
    def _is_backed_up(driver: LinuxDriver) -> bool:
        writer = driver._writer_thread  # noqa: SLF001  the queue that would block the event loop when full
        return writer is not None and not writer._queue.empty()  # noqa: SLF001  the same

    def _catch_up(self) -> None:
        self._catch_up_due = False
        self.screen.refresh()
