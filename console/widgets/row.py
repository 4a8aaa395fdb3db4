"""A line, a block of lines, and a titled section of lines; each redraws only when its text changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static


class Row(Static):
    """One line; one that can be opened takes the focus."""

    def __init__(self, *, id: str | None = None, classes: str = "", openable: bool = False) -> None:  # noqa: A002  Textual's name
        super().__init__("", id=id, classes=f"row {classes}", markup=False)
        self.can_focus = openable
        self._shown: Content | None = None

    @property
    def shown(self) -> str:
        """What is drawn, as text."""
        return "" if self._shown is None else self._shown.plain

    def show(self, content: Content) -> None:
        """Draw `content` where it differs from what is shown."""
        if self._shown is None or not self._shown.is_same(content):
            self._shown = content
            self.update(content)


class Block(Row):
    """Several lines in one widget; long ones wrap."""

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002  Textual's name
        super().__init__(id=id, classes=f"block {classes}")

    def show_lines(self, lines: Sequence[Content]) -> None:
        """Draw the lines one below the other."""
        self.show(Content("\n").join(lines))


class Section(Vertical):
    """Rows under a title: a box where there is room, a rule where there is not."""

    def __init__(self, title: str, *, id: str, openable: bool = False) -> None:  # noqa: A002  Textual's name
        super().__init__(id=id, classes="section")
        self.border_title = title
        self._title = title
        self._openable = openable
        self._rows: list[Row] = []

    def show_rows(self, lines: Sequence[Content], *, quiet: Collection[int] = ()) -> None:
        """Draw one row a line; rows are made as they are needed and hidden when they are not.

        `quiet` are the places of rows that cannot be opened, such as a header.
        """
        missing = [Row(openable=self._openable) for _ in range(len(lines) - len(self._rows))]
        if missing:
            self._rows.extend(missing)
            self.mount(*missing)
        for row, line in zip(self._rows, lines, strict=False):
            row.show(line)
        for place, row in enumerate(self._rows):
            row.display = place < len(lines)
            row.can_focus = self._openable and place not in quiet

    def index_of(self, row: object) -> int | None:
        """Return the place of a row in this section."""
        return next((place for place, own in enumerate(self._rows) if own is row), None)

    def row_at(self, place: int) -> Row | None:
        """Return the shown row at a place; none where there is none."""
        row = self._rows[place] if 0 <= place < len(self._rows) else None
        return row if row is not None and row.display and row.is_attached else None

    def note(self, text: str, *, beside_title: bool) -> None:
        """Set the section's note: at the bottom of a box, or beside the title of a rule."""
        title = f"{self._title}   {text}" if beside_title and text else self._title
        subtitle = "" if beside_title else text
        if (self.border_title, self.border_subtitle) != (title, subtitle):
            self.border_title, self.border_subtitle = title, subtitle
