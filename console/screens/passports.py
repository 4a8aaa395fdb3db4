"""Passports: what this node was measured to do, each beside what was predicted; any two side by side."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from appliance.domain.acceptance import PassportView
from console.render import passports
from console.render.frame import Frame
from console.render.listing import Table
from console.screens.listing import ListScreen
from console.screens.pages import TextPage

PAIR = 2


class PassportsScreen(ListScreen[tuple[PassportView, ...]]):
    """Newest first. Space marks; with two marked, c sets them side by side."""

    TABBED = "Passports"
    TITLE_WORDS = "Capacity passports"
    LIST_TITLE = "Passports, newest first"
    REFRESH_S = 60.0
    HELP_LINES = (
        "ok nothing is worse; WARN worse by more than noise, or below the band",
        "of the data sheet; FAIL a device computes wrong.",
        "-- figures of a CPU, which say nothing about a GPU.",
        "`leeward acceptance` makes a new one; nobody is served meanwhile.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", key_display="Space"),
        Binding("c", "compare", "Compare"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._marked: tuple[str, ...] = ()

    async def read(self) -> tuple[PassportView, ...]:
        return await self.console.management.passports()

    def table(self, value: tuple[PassportView, ...], frame: Frame) -> Table:
        return passports.table(value, self._marked, frame)

    def open_line(self, value: tuple[PassportView, ...], key: str) -> None:
        view = next(view for view in value if view.passport.id == key)
        self.app.push_screen(TextPage(f"Passport of {view.passport.slot}", passports.detail(view)))

    def action_mark(self) -> None:
        """Mark or unmark; a third mark lets go of the first."""
        if self.selected in self._marked:
            self._marked = tuple(one for one in self._marked if one != self.selected)
        elif self.selected:
            self._marked = (*self._marked, self.selected)[-PAIR:]
        self.redraw()

    def action_compare(self) -> None:
        """Set the two that are marked side by side, the older one first."""
        found = [view.passport for view in self.reading.value or () if view.passport.id in self._marked]
        if len(found) != PAIR:
            self.notify("Mark two passports with Space first.", timeout=4)
            return
        old, new = sorted(found, key=lambda passport: passport.measured_at)
        self.app.push_screen(TextPage("Two passports", passports.comparison(old, new)))
