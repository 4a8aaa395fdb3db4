"""Before the first look has succeeded: reading, or why nothing can be read."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content

from console.render import health, text
from console.screens.base import ConsoleScreen
from console.widgets.row import Block


class UnreachableScreen(ConsoleScreen):
    """What, why, harm and remedy of a daemon that does not answer, with a countdown."""

    TITLE_WORDS = "No contact"
    HELP_LINES = ("The console reads everything from the management daemon and tries again by itself.",)

    def body(self) -> ComposeResult:
        yield Block(id="text", classes="page")

    def draw(self) -> None:
        frame, watch = self.frame(), self.console.observed
        self.strip(health.strip(watch, self.console.node, frame), alarming=health.is_alarming(watch))
        trouble = watch.trouble
        lines = health.banner(watch, frame)
        if trouble is not None:
            lines += [
                Content(""),
                *text.labelled("Why", trouble.detail, frame.width),
                *text.labelled("Harm", health.harm(trouble), frame.width),
                *text.labelled("Remedy", trouble.remedy, frame.width, style="bold"),
            ]
        self.query_one("#text", Block).show_lines(lines)
