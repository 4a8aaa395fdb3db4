"""A list that the daemon gives: read again and again, searched, walked through, opened.

Only the lines that fit have widgets; the others are text that is found, counted and written to files.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar, Generic, TypeVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from bundles.errors import LeewardError
from console.reading import Reading
from console.render import listing, text
from console.render.frame import Frame
from console.render.listing import Line, Table
from console.screens.finding import FindingScreen
from console.widgets.row import Block, Row, Section

T = TypeVar("T")

RETRY_S = 5.0
FILE_WIDTH = 200
"""Columns of a list in a file, where nothing need be cut."""


class ListScreen(FindingScreen, Generic[T]):
    """One list. A subclass reads it (`read`), draws it (`table`, `above`) and opens its lines (`open_line`)."""

    LIST_TITLE: ClassVar[str] = ""
    REFRESH_S: ClassVar[float] = 15.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", key_display="Enter"),
        Binding("down,j", "move(1)", "Move", show=False),
        Binding("up,k", "move(-1)", "Move", show=False),
        Binding("pagedown", "page(1)", "Page", show=False),
        Binding("pageup", "page(-1)", "Page", show=False),
        Binding("home,g", "move(-1000000)", "First line", show=False),
        Binding("end,G", "move(1000000)", "Last line", show=False),
        Binding("r", "read_now", "Refresh"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.reading: Reading[T] = Reading()
        self._selected = 0
        self._top = 0
        self._lines: tuple[Line, ...] = ()
        self._is_outdated = False

    @abstractmethod
    async def read(self) -> T:
        """Ask the daemon; raises LeewardError."""

    @abstractmethod
    def table(self, value: T, frame: Frame) -> Table:
        """Draw the list."""

    def above(self, value: T, frame: Frame) -> list[Content]:
        """Draw what stands above the list."""
        del value, frame
        return []

    def open_line(self, value: T, key: str) -> None:
        """Open one line."""

    def words(self) -> str:
        """Return what the strip says beside the node's name."""
        return self.TITLE_WORDS.upper()

    @property
    def selected(self) -> str:
        """The key of the line that is walked to; empty where there is none."""
        return self._lines[self._selected].key if self._lines else ""

    def body(self) -> ComposeResult:
        yield Block(id="above")
        yield Section(self.LIST_TITLE, id="list", openable=True)
        yield from self.find_line()

    def on_mount(self) -> None:
        super().on_mount()
        self.load()

    def outdate(self) -> None:
        """Say that something was changed: the list is read anew as soon as it is looked at."""
        self._is_outdated = True
        if self.is_current:
            self.load()

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if self._is_outdated:
            self.load()

    @work(exclusive=True, group="read")
    async def load(self) -> None:
        """Read at once, then again at this list's pace, while it is looked at and not paused."""
        while True:
            if self.is_current and not self.console.observed.paused:
                await self._read_once()
            await asyncio.sleep(self.REFRESH_S if self.reading.trouble is None else RETRY_S)

    async def _read_once(self) -> None:
        self._is_outdated = False
        try:
            self.reading = self.reading.seen(await self.read(), self.console.now())
        except LeewardError as error:
            self.reading = self.reading.failed(error)
        self.refresh_bindings()
        self.redraw()

    def shown_keys(self) -> list[tuple[str, str]]:
        """Return the keys, Enter first; a list has no log of its own, and Refresh is named where there is room."""
        keys = {what: key for key, what in super().shown_keys() if what != "Log"}
        last = [(keys.pop(what), what) for what in ("Find", "Refresh", "Help", "Leave") if what in keys]
        first = [(keys.pop(what), what) for what in ("Open",) if what in keys]
        shown = [*first, *((key, what) for what, key in keys.items()), *last]
        if sum(len(key) + len(what) + 3 for key, what in shown) - 2 > self.frame().width:
            shown = [pair for pair in shown if pair[1] != "Refresh"]
        return shown

    def draw(self) -> None:
        app = self.console
        stale = self.reading.is_stale(app.now(), 2 * self.REFRESH_S + app.capabilities.refresh_s)
        outer = self.frame(stale=stale)
        strip = listing.strip(app.node, self.words(), outer, simulated=app.simulated, paused=app.observed.paused)
        self.strip(strip, alarming=self.reading.trouble is not None)
        value = self.reading.value
        lines = listing.banner(self.reading, outer)
        if value is not None:
            lines.extend(self.above(value, outer))
        above = self.query_one("#above", Block)
        above.display = bool(lines)
        above.show_lines([line.truncate(outer.width, ellipsis=True) for line in lines])
        section = self.query_one("#list", Section)
        section.display = value is not None
        if value is not None:
            self._draw_list(section, self.table(value, self._inner(stale=stale)), stale=stale)

    def view_lines(self) -> list[str] | None:
        """Return the whole list as text, also what does not fit on the screen."""
        value, frame = self.reading.value, replace(self.frame(), width=FILE_WIDTH)
        if value is None:
            return super().view_lines()
        stale = self.reading.is_stale(frame.now, 2 * self.REFRESH_S + frame.capabilities.refresh_s)
        frame = replace(frame, stale=stale)
        table = self.table(value, frame)
        lines = [listing.draw_line(line, frame) for line in listing.matching(table.lines, self.wanted)]
        drawn = [*listing.banner(self.reading, frame), *self.above(value, frame), Content(table.header), *lines]
        found = f", only what holds {self.wanted!r}" if self.wanted else ""
        title = f"{self.LIST_TITLE}{found}, as of {text.clock(self.reading.at)}"
        return [title, *(line.plain for line in drawn)]

    def _inner(self, *, stale: bool) -> Frame:
        return self.frame(margin=6 if self.frame().wide else 0, stale=stale)

    def _draw_list(self, section: Section, table: Table, *, stale: bool) -> None:
        frame = self._inner(stale=stale)
        self._lines = listing.matching(table.lines, self.wanted)
        self.show_found(len(self._lines), len(table.lines))
        room = max(1, section.size.height - 1)
        self._selected = max(0, min(self._selected, len(self._lines) - 1))
        self._top = max(0, min(self._top, self._selected, len(self._lines) - room))
        self._top = max(self._top, self._selected - room + 1)
        shown = self._lines[self._top : self._top + room]
        rows = [text.muted(table.header), *(listing.draw_line(line, frame) for line in shown)]
        if not table.lines:
            rows = [Content.assemble(text.OFF, f"  {table.empty}")]
        elif not self._lines:
            rows = [Content.assemble(text.OFF, "  No line holds this text. Esc shows all.")]
        note = f"{self._place(len(shown))}as of {text.clock(self.reading.at)}"
        section.note(note, beside_title=not self.frame().wide)
        section.show_rows(rows, quiet=(0,))
        self.call_after_refresh(self._settle, room)

    def _place(self, shown: int) -> str:
        if not self._lines or shown == len(self._lines):
            return ""
        return f"{self._top + 1} to {self._top + shown} of {len(self._lines)}   "

    def _settle(self, room: int) -> None:
        """Fill the room that the list has after all is laid out, and focus the line that is walked to."""
        if not self.is_mounted or self.is_asking or not self._lines:
            return
        section = self.query_one("#list", Section)
        if room != max(1, section.size.height - 1):
            self.redraw()
            return
        row: Row | None = section.row_at(1 + self._selected - self._top)
        if row is not None and self.focused is not row:
            self.set_focus(row)

    def action_move(self, lines: int) -> None:
        """Walk by lines."""
        self._selected = max(0, min(self._selected + lines, len(self._lines) - 1))
        self.redraw()

    def action_page(self, pages: int) -> None:
        """Walk by what fits on the screen."""
        self.action_move(pages * max(1, self.query_one("#list", Section).size.height - 2))

    def action_read_now(self) -> None:
        """Read now, and go on if live updates were paused."""
        self.console.action_look()
        self.load()

    def action_open(self) -> None:
        """Open the line that is walked to."""
        if self.reading.value is not None and self.selected:
            self.open_line(self.reading.value, self.selected)
