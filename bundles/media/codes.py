"""QR codes (ISO/IEC 18004) for a terminal and for a printed page. Pure."""

from __future__ import annotations

import io

import segno


def terminal_code(text: str) -> str:
    """Draw a code of half-height blocks."""
    drawn = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(drawn, compact=True)
    return drawn.getvalue()


def svg_code(text: str) -> str:
    """Draw a code as an SVG element, to stand in a page."""
    return segno.make(text, error="m", micro=False).svg_inline(scale=3)
