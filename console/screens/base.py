"""What every screen has: the strip on top, its body, and one line of keys that fits 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import Screen

from console.render.frame import Frame
from console.render.keys import key_line
from console.widgets.row import Row, Section

if TYPE_CHECKING:
    from console.app import ConsoleApp


class ConsoleScreen(Screen[Any]):
    """One question or one view. Screens hold no truth: they draw what the app has seen."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012  Textual declares it as a variable
    AUTO_FOCUS = ""
    TITLE_WORDS: ClassVar[str] = ""
    HELP_LINES: ClassVar[tuple[str, ...]] = ()
    TABBED: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "app.focus_next", "Move", show=False),
        Binding("up,k", "app.focus_previous", "Move", show=False),
    ]

    @property
    def console(self) -> ConsoleApp:
        """The app, by its own type."""
        return cast("ConsoleApp", self.app)

    def compose(self) -> ComposeResult:
        yield Row(id="strip")
        if self.TABBED:
            yield Row(id="tabs")
        with Vertical(id="body"):
            yield from self.body()
        yield Row(id="keys")

    def body(self) -> ComposeResult:
        """Yield the widgets between strip and keys."""
        yield from ()

    def frame(self, *, margin: int = 2, stale: bool = False) -> Frame:
        """Return the room for a line that leaves `margin` columns."""
        app = self.console
        return Frame(width=max(1, self.size.width - margin), now=app.now(), capabilities=app.capabilities, stale=stale)

    def draw(self) -> None:
        """Draw everything from what is known now; called each second and after each look."""

    def redraw(self) -> None:
        """Draw if there is something to draw on; a screen that is being taken down loses its parts first."""
        alive = self.app.is_running and self.is_attached and self.is_mounted
        if alive and self.is_current and self.size.width:
            with self.app.batch_update():
                self.draw()
                self.query_one("#keys", Row).show(key_line(self.shown_keys(), self.frame()))
                if self.TABBED:
                    self.query_one("#tabs", Row).show(self.console.tabs(self.TABBED))

    def shown_keys(self) -> list[tuple[str, str]]:
        """Return the keys of the bottom line, from this screen's live bindings."""
        keys: dict[tuple[str, str], None] = {}
        for active in self.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and active.node in (self, self.app):
                # A binding of several keys is live once for each of them.
                keys[binding.key_display or binding.key, binding.description] = None
        return list(keys)

    def strip(self, content: Content, *, alarming: bool) -> None:
        """Draw the top line."""
        row = self.query_one("#strip", Row)
        row.set_class(alarming, "-bad")
        row.show(content)

    @property
    def view_name(self) -> str:
        """What a file of this view is named for."""
        return self.TITLE_WORDS

    def view_lines(self) -> list[str] | None:
        """Return what the screen shows, as text; none where it must not be written down."""
        parts = [part for part in self.query("*") if all(node.display for node in part.ancestors_with_self)]
        lines: list[str] = []
        for part in parts:
            if isinstance(part, Section):
                lines.extend(("", str(part.border_title or "")))
            elif isinstance(part, Row) and part.id != "keys":
                lines.extend(part.shown.splitlines())
        return lines

    def open_log(self) -> None:
        """Open the log of what this screen is about: without one of its own, the node's events."""
        self.console.open_events()

    def open_help(self) -> None:
        """Open help for this screen."""
        self.console.open_help_of(self)

    def on_mount(self) -> None:
        self.call_after_refresh(self.redraw)

    def on_resize(self, event: events.Resize) -> None:
        del event
        self.call_after_refresh(self.redraw)

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.redraw)
