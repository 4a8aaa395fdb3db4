"""Lists as lines: a state word, then the rest; old data loses its word and its colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from textual.content import Content

from bundles.errors import LeewardError
from console.reading import Reading
from console.render import text
from console.render.frame import Frame

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing of a list. `key` names it among the others; `state` is one of the words of `text`."""

    key: str
    rest: Content
    state: Content | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A list under its header; `empty` says why it is empty and which key to press."""

    header: str
    lines: tuple[Line, ...]
    empty: str


def draw_line(line: Line, frame: Frame) -> Content:
    """Draw one line, cut to the frame."""
    if frame.stale:
        word = Content("") if line.state is None else text.STALE
        drawn = Content.assemble(word, text.muted(line.rest.plain))
    else:
        drawn = Content.assemble(line.state or "", line.rest)
    return drawn.truncate(frame.width, ellipsis=True)


def matching(lines: Sequence[Line], wanted: str) -> tuple[Line, ...]:
    """Return the lines in which a text stands, in whatever case; no text means all."""
    low = wanted.casefold()
    return tuple(line for line in lines if low in line.rest.plain.casefold() or low in line.key.casefold())


def strip(node: str, words: str, frame: Frame, *, simulated: Sequence[str], paused: bool) -> Content:
    """Draw the top line of a screen that is not the node's health."""
    left = [Content(f"{node}   {words}")]
    if paused:
        left.append(Content.assemble("   ", (" PAUSED: p goes on ", "bold reverse")))
    if simulated:
        left.append(Content.assemble("   ", (f" SIMULATED: {', '.join(simulated)} ", "bold reverse")))
    return text.ends(Content.assemble(*left), Content(text.clock(frame.now)), frame.width)


def banner(reading: Reading[T], frame: Frame) -> list[Content]:
    """Draw what stands above a list that is not fresh: nothing yet, a failed try, or old data."""
    if reading.value is None:
        return [Content.assemble(text.OFF, "  reading...")] if reading.trouble is None else trouble(reading, frame)
    if frame.stale:
        age_s = int(reading.age_s(frame.now))
        old = f" (last {text.clock(reading.at)}). Values below are old and greyed."
        return [
            Content.assemble(text.WARN, "  ", (f"No new data for {age_s} s", "bold"), old),
            *trouble(reading, frame),
        ]
    return []


def trouble(reading: Reading[T], frame: Frame) -> list[Content]:
    """Draw what the last try met, and what to do."""
    return [] if reading.trouble is None else error_lines(reading.trouble, frame.width)


def error_lines(error: LeewardError, width: int) -> list[Content]:
    """Draw an error: title, why, remedy, code."""
    return [
        Content.assemble(text.FAIL, "  ", (f"{error.title}.", "bold")),
        *text.labelled("Why", error.detail, width),
        *text.labelled("Remedy", error.remedy, width, style="bold"),
        *text.labelled("Code", error.code, width),
    ]
