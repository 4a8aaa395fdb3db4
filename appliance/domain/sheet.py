"""Lines of CSV for people's spreadsheets. Pure.

CSV follows RFC 4180. A text that a spreadsheet would run as a formula gets an apostrophe in front
(OWASP, CSV Injection); numbers and times are never changed, and an empty cell is unknown, not zero.
"""

from __future__ import annotations

import csv
import io
from typing import Final

Cell = str | int | float | bool | None

_FORMULA_STARTS: Final = tuple("=+-@\t\r\n\0＝＋－＠")  # noqa: RUF001  spreadsheets read the full-width signs too


def csv_line(cells: tuple[Cell, ...]) -> str:
    """Return one line with its CRLF; texts are made harmless."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow([_harmless(cell) for cell in cells])
    return buffer.getvalue()


def _harmless(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str):
        return "'" + cell if cell.startswith(_FORMULA_STARTS) else cell
    return str(cell)
