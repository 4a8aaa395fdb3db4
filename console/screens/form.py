"""A page of fields that ends in one act: make a key, set a limit, revoke. What is wrong is said on the page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Label

from bundles.errors import LeewardError
from console.render import listing, text
from console.screens.base import ConsoleScreen
from console.widgets.row import Block

Submit = Callable[[Mapping[str, str]], Awaitable[str | ConsoleScreen]]
"""Acts on the fields' texts; gives back what is still wrong, nothing, or what to show. May raise LeewardError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One line to type. `name` is how `Submit` sees it."""

    name: str
    label: str
    value: str = ""


class FormPage(ConsoleScreen):
    """Fields, one below the other; Enter on the last one acts, Esc leaves all as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Priority: what is typed ahead on a slow line must reach the field that Enter has opened.
        Binding("enter", "next", "Next", key_display="Enter", priority=True),
        Binding("tab", "app.focus_next", "Next field", key_display="Tab", priority=True),
        Binding("escape", "app.back", "Back", key_display="Esc", priority=True),
    ]

    def __init__(self, title: str, about: Sequence[str], fields: Sequence[Field], submit: Submit) -> None:
        super().__init__()
        self._heading = title
        self._about = about
        self._fields = fields
        self._submit = submit
        self._complaint: list[Content] = []

    def body(self) -> ComposeResult:
        with Vertical(classes="page form"):
            yield Block(id="about")
            for field in self._fields:
                yield Label(field.label)
                yield Input(field.value, id=f"field-{field.name}")
            yield Block(id="refusal")

    def on_mount(self) -> None:
        super().on_mount()
        for field in self.query(Input):
            field.cursor_blink = False  # a blinking cursor sends bytes for as long as nobody types
        self.set_focus(self._inputs[0])

    def shown_keys(self) -> list[tuple[str, str]]:
        """Return the keys that a field does not take."""
        return [("Enter", "Next, then do it"), ("Tab", "Next field"), ("Esc", "Back, change nothing")]

    def draw(self) -> None:
        frame = self.frame()
        app = self.console
        title = listing.strip(app.node, self._heading, frame, simulated=app.simulated, paused=app.observed.paused)
        self.strip(title, alarming=False)
        note = (
            [text.muted("What is typed replaces what stands in a field.")] if any(f.value for f in self._fields) else []
        )
        self.query_one("#about", Block).show_lines([*(Content(line) for line in self._about), *note, Content("")])
        self.query_one("#refusal", Block).show_lines(self._complaint)

    def open_log(self) -> None:
        """Stay: what was typed would be hidden."""

    def open_help(self) -> None:
        """Stay, for the same reason."""

    @property
    def _inputs(self) -> list[Input]:
        return list(self.query(Input))

    def action_next(self) -> None:
        """Go to the next field; on the last one, act."""
        fields = self._inputs
        place = fields.index(self.focused) if isinstance(self.focused, Input) else -1
        if place + 1 < len(fields):
            self.set_focus(fields[place + 1])
        else:
            self._act()

    async def _all_typed(self) -> None:
        """Wait until every field has taken the keys that were pressed for it."""
        done = [asyncio.Event() for _ in self._inputs]
        for field, event in zip(self._inputs, done, strict=True):
            field.call_later(event.set)
        await asyncio.gather(*(event.wait() for event in done))

    @work(exclusive=True)
    async def _act(self) -> None:
        """Act, and go back where that went well."""
        await self._all_typed()
        values = {field.name: self.query_one(f"#field-{field.name}", Input).value.strip() for field in self._fields}
        try:
            outcome = await self._submit(values)
        except LeewardError as error:
            self._complaint = listing.error_lines(error, self.frame(margin=6).width)
        else:
            if isinstance(outcome, ConsoleScreen):
                self.app.switch_screen(outcome)
            elif not outcome:
                self.console.go_back()
            else:
                self._complaint = [Content.styled(outcome, "bold $warning")]
        self.redraw()
