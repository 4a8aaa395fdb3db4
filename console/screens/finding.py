"""Finding a text: `/` asks for it, what holds it stays on the screen, Esc shows all again."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from console.render import text
from console.screens.base import ConsoleScreen
from console.widgets.row import Row


class FindingScreen(ConsoleScreen):
    """A screen of many lines. `wanted` is the text that a shown line must hold."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "Find", key_display="/"),
        Binding("escape,backspace", "unfind_or_back", "Back", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.wanted = ""

    def find_line(self) -> ComposeResult:
        """Yield the widgets of the search, for the end of the body."""
        yield Row(id="found")
        field = Input(id="find", placeholder="text to find; Enter keeps it, Esc shows all", select_on_focus=False)
        field.cursor_blink = False  # a blinking cursor sends bytes for as long as nobody types
        yield field

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#find", Input).display = False
        self.query_one("#found", Row).display = False

    def show_found(self, shown: int, of_all: int) -> None:
        """Say how many lines hold the text."""
        row = self.query_one("#found", Row)
        row.display = bool(self.wanted)
        row.show(
            Content.assemble(("Find ", "$mute"), (self.wanted, "bold"), text.muted(f"   {shown} of {of_all} lines"))
        )

    @property
    def is_asking(self) -> bool:
        """Whether the text is being typed."""
        return self.query_one("#find", Input).has_focus

    def action_find(self) -> None:
        """Ask for the text."""
        field = self.query_one("#find", Input)
        field.display = True
        field.focus()

    @on(Input.Changed, "#find")
    def _typed(self, event: Input.Changed) -> None:
        self.wanted = event.value
        self.redraw()

    @on(Input.Submitted, "#find")
    def _kept(self) -> None:
        self._close()

    def action_unfind_or_back(self) -> None:
        """Show all lines again; where all are shown, go back."""
        field = self.query_one("#find", Input)
        if self.wanted or field.display:
            field.value = ""
            self.wanted = ""
            self._close()
        else:
            self.console.go_back()

    def _close(self) -> None:
        self.query_one("#find", Input).display = False
        self.set_focus(None)
        self.redraw()
