"""Pages of text that lie on top of a screen: help, detail, log; and the question before a stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Label

from console.render import text
from console.screens.finding import FindingScreen
from console.widgets.row import Block, Row


class TextPage(FindingScreen):
    """Lines to read; Esc goes back to where one was. A `secret` page is never written to a file."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "unfind_or_back", "Back", key_display="Esc"),
        Binding("down,j", "scroll(1)", "Scroll", key_display="j k"),
        Binding("up,k", "scroll(-1)", "Scroll", show=False),
        Binding("pagedown,space", "page(1)", "Page", key_display="Space"),
        Binding("pageup", "page(-1)", "Page", show=False),
        Binding("home,g", "edge(-1)", "Start", show=False),
        Binding("end,G", "edge(1)", "End", show=False),
    ]

    def __init__(
        self,
        title: str,
        lines: Sequence[Content] | Callable[[], Sequence[Content]],
        *,
        follows: bool = False,
        secret: bool = False,
    ) -> None:
        super().__init__()
        self._heading = title
        self._lines = lines if callable(lines) else lambda: lines
        self._can_follow = self._follows = follows
        self._secret = secret

    def body(self) -> ComposeResult:
        with VerticalScroll(id="scroll", can_focus=False):
            yield Block(id="text")
        yield from self.find_line()

    def shown_keys(self) -> list[tuple[str, str]]:
        """Return this page's own keys; those of the screen below do not apply."""
        return [
            *(pair for pair in super().shown_keys() if pair[1] in ("Back", "Scroll", "Page", "Find", "Write")),
            ("q", "Leave"),
        ]

    def draw(self) -> None:
        frame = self.frame()
        self.strip(text.ends(Content(self._heading), Content(text.clock(frame.now)), frame.width), alarming=False)
        lines = self._found()
        self.show_found(len(lines), len(self._lines()))
        self.query_one("#text", Block).show_lines(lines)
        if self._follows:
            self.call_after_refresh(self.action_edge, 1)

    @property
    def view_name(self) -> str:
        return self._heading

    def view_lines(self) -> list[str] | None:
        """Return all lines, also those that do not fit; none of a secret."""
        return None if self._secret else [self._heading, "", *(line.plain for line in self._found())]

    def _found(self) -> list[Content]:
        low = self.wanted.casefold()
        return [line for line in self._lines() if low in line.plain.casefold()]

    def open_log(self) -> None:
        """Stay: a page on top of a page would hide the way back."""

    def open_help(self) -> None:
        """Stay, for the same reason."""

    def action_scroll(self, lines: int) -> None:
        """Move by lines."""
        scroll = self.query_one("#scroll", VerticalScroll)
        # A reader of a log who came to its end stays there; who went up is left where they are.
        self._follows = self._can_follow and scroll.scroll_offset.y + lines >= scroll.max_scroll_y
        scroll.scroll_relative(y=lines, animate=False)

    def action_page(self, pages: int) -> None:
        """Move by pages."""
        self.action_scroll(pages * max(1, self.query_one("#scroll", VerticalScroll).size.height - 1))

    def action_edge(self, edge: int) -> None:
        """Move to the start or the end."""
        scroll = self.query_one("#scroll", VerticalScroll)
        self._follows = self._can_follow and edge > 0
        scroll.scroll_to(y=scroll.max_scroll_y if edge > 0 else 0, animate=False)


class Ask(ModalScreen[bool]):
    """A question whose safe answer is the default: only `y` says yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,enter,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str, effect: str, *, yes: str) -> None:
        super().__init__()
        self._question = question
        self._effect = effect
        self._yes = yes

    def compose(self) -> ComposeResult:
        with Vertical(id="card"):
            yield Label(Content.styled(self._question, "bold"))
            yield Label(Content(self._effect))
            yield Label("")
            yield Row(id="answers")

    def on_mount(self) -> None:
        keys = Content.assemble(("y", "bold $primary"), f" {self._yes}   ", ("Enter, n", "bold $primary"), " no, go on")
        self.query_one("#answers", Row).show(keys)

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001  Textual passes an action's argument by position
        """Close with the answer."""
        self.dismiss(answer)
