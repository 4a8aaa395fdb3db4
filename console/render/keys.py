"""The line of keys and the page of keys, from the bindings that are live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from console.render import text
from console.render.frame import Frame


def key_line(keys: Iterable[tuple[str, str]], frame: Frame) -> Content:
    """Draw `key what` pairs; the line is cut, never wrapped."""
    parts = [Content.assemble((key, "bold $primary"), f" {what}") for key, what in keys]
    return Content("  ").join(parts).truncate(frame.width, ellipsis=True)


def key_page(keys: Iterable[tuple[str, str]]) -> list[Content]:
    """Draw one key a line."""
    return [Content.assemble("  ", (f"{key:<18}", "bold $primary"), what) for key, what in keys]


def tab_line(tabs: Sequence[tuple[str, str]], current: str, width: int) -> Content:
    """Draw the screens that exist; the present one stands out. Commands are named as the room allows."""
    parts = []
    for key, name in tabs:
        if name == current:
            parts.append(Content.styled(f" {key} {name} ", "reverse $primary"))
        else:
            parts.append(Content.assemble(" ", (key, "$primary"), f" {name} "))
    line = Content.assemble(*parts)
    notes = [note for note in ("  : commands", " : more") if line.cell_length + len(note) <= width]
    return Content.assemble(line, text.muted(notes[0] if notes else ""))
