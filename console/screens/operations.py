"""All operations that the daemon remembers, newest first."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content

from appliance.domain.projection import OperationView
from bundles.errors import LeewardError
from console.render import operation, text
from console.screens.base import ConsoleScreen
from console.widgets.row import Section


class OperationsScreen(ConsoleScreen):
    """A list; Enter opens one."""

    TABBED = "Operations"
    TITLE_WORDS = "Operations"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open", key_display="Enter")]

    def __init__(self) -> None:
        super().__init__()
        self._views: tuple[OperationView, ...] | None = None

    def body(self) -> ComposeResult:
        yield Section("Operations, newest first", id="operations", openable=True)

    def on_mount(self) -> None:
        super().on_mount()
        self.load()

    @work(exclusive=True)
    async def load(self) -> None:
        """Ask the daemon for the list."""
        try:
            self._views = await self.console.management.operations()
        except LeewardError as error:
            self.console.say(error)
        self.redraw()

    def draw(self) -> None:
        frame = self.frame(margin=4)
        top = text.ends(
            Content(f"{self.console.node}   OPERATIONS"), Content(text.clock(frame.now)), self.frame().width
        )
        self.strip(top, alarming=False)
        if self._views is None:
            rows = [Content.assemble(text.OFF, "  reading...")]
        elif not self._views:
            rows = [Content.assemble(text.OFF, "  There has been no operation. Press : and type install to begin one.")]
        else:
            rows = [operation.list_row(view, frame) for view in self._views]
        self.query_one("#operations", Section).show_rows(rows)

    def action_open(self) -> None:
        """Open the focused operation."""
        place = self.query_one("#operations", Section).index_of(self.focused)
        if place is not None and self._views and place < len(self._views):
            self.console.open_operation(self._views[place].id)
