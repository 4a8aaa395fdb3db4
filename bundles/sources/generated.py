"""`kind = "generated"`: stand-in input data that Leeward makes itself. Never for production."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bundles import tiny
from bundles.errors import RecipeInvalid
from bundles.sources import SourceContext, text

GENERATORS: Mapping[str, Callable[[Path], None]] = {
    "tiny-target": tiny.write_target,
    "tiny-draft": tiny.write_draft,
    "tiny-license": tiny.write_license,
}


class GeneratedSource:
    """Makes the content called `name`; the same bytes every time."""

    def __init__(self, table: Mapping[str, object], context: SourceContext) -> None:
        name = text(table, "name")
        if name not in GENERATORS:
            raise RecipeInvalid(
                detail=f"generated content {name!r} is not one of {', '.join(GENERATORS)}",
                remedy="Correct `name` in the recipe's source.",
            )
        self._name = name
        self._progress = context.progress

    def fetch(self, into: Path) -> None:
        self._progress(self._name, 0, 1)
        GENERATORS[self._name](into)
        self._progress(self._name, 1, 1)
