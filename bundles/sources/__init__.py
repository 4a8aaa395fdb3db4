"""Where the contents of a bundle come from: one module for each kind of source.

A recipe names a kind; the module behind it is imported only then, so that an auditor's laptop
needs none of the build host's libraries. A source class takes `(table, context)`, checks its table
when it is made (RecipeInvalid) and delivers with `fetch(into)` (SourceFailed). A fetch can be
repeated: it resumes through the cache and leaves in `into` nothing but the named content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from bundles.errors import RecipeInvalid

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total); bytes where bytes are counted. Cheap, may be called from threads."""

KINDS: Mapping[str, str] = {
    "appliance": "bundles.sources.appliance:ApplianceSource",
    "debian": "bundles.sources.debian:DebianSource",
    "folder": "bundles.sources.folder:FolderSource",
    "generated": "bundles.sources.generated:GeneratedSource",
    "hub": "bundles.sources.hub:HubSource",
    "rpm": "bundles.sources.rpm:RpmSource",
    "wheels": "bundles.sources.wheels:WheelsSource",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContext:
    """What every source may use.

    `recipe_folder` is where relative paths of the recipe start, `cache` a writable folder that
    survives builds (each kind uses a folder of its own in it), `progress` tells people.
    """

    recipe_folder: Path
    cache: Path
    progress: Progress


class Source(Protocol):
    """Something that can put named content into a folder."""

    def fetch(self, into: Path) -> None:
        """Fill `into`, which exists. Raises SourceFailed when the content cannot be had."""
        ...


def make_source(table: Mapping[str, object], context: SourceContext) -> Source:
    """Make the source that a recipe's `source = { kind = ..., ... }` names.

    Raises RecipeInvalid for an unknown kind, and whatever the source's own check of its table raises.
    """
    kind = table.get("kind")
    place = KINDS.get(kind) if isinstance(kind, str) else None
    if place is None:
        raise RecipeInvalid(
            detail=f"source kind {kind!r} is not one of {', '.join(KINDS)}",
            remedy="Correct `source = { kind = ... }` in the recipe.",
        )
    module, _, name = place.partition(":")
    make = cast("Callable[[Mapping[str, object], SourceContext], Source]", getattr(import_module(module), name))
    return make(table, context)


def text(table: Mapping[str, object], key: str, default: str | None = None) -> str:
    """Return the text at `key` of a source's table; raises RecipeInvalid where there is none."""
    value = table.get(key, default)
    if not isinstance(value, str) or not value:
        raise RecipeInvalid(
            detail=f"source {table.get('kind')!r} needs {key!r} as text; it has {value!r}",
            remedy=f"Give `{key}` in the source's table of the recipe.",
        )
    return value


def texts(table: Mapping[str, object], key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the list of texts at `key` of a source's table; raises RecipeInvalid for anything else."""
    value = table.get(key, list(default))
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise RecipeInvalid(
            detail=f"source {table.get('kind')!r} needs {key!r} as a list of texts; it has {value!r}",
            remedy=f'Give `{key} = ["..."]` in the source\'s table of the recipe.',
        )
    return tuple(value)
