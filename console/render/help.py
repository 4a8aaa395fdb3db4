"""The help page: what this screen means, then its keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from console.render.keys import key_page

_NAMES = {
    "question_mark": "?", "colon": ":", "escape": "Esc", "backspace": "Backspace", "tab": "Tab",
    "shift+tab": "Shift-Tab", "ctrl+c": "Ctrl-C", "ctrl+l": "Ctrl-L", "pagedown": "PgDn", "pageup": "PgUp",
    "down": "Down", "up": "Up", "home": "Home", "end": "End", "space": "Space",
}  # fmt: skip
_HIDDEN = frozenset({"super+c", "ctrl+i"})


def help_lines(title: str, notes: Sequence[str], keys: Iterable[tuple[str, str]]) -> list[Content]:
    """Draw the notes of a screen and every key that is live on it."""
    by_meaning: dict[str, list[str]] = {}
    for key, what in keys:
        name = _NAMES.get(key, key)
        if what and key not in _HIDDEN and name not in by_meaning.setdefault(what, []):
            by_meaning[what].append(name)
    shown = [(", ".join(names), what) for what, names in by_meaning.items() if names]
    return [
        Content.styled(title, "bold $primary"),
        *(Content(f"  {note}") for note in notes),
        Content(""),
        Content.styled("Keys", "bold $primary"),
        *key_page(shown),
        Content(""),
        Content("Leaving the console stops nothing: the daemon goes on."),
    ]
