"""A recipe: how to build a release, as a TOML file in `bundles/recipes/`.

The tables `engine`, `requirements` and `licenses` have the shape of `bundles.release`; fields that
may be None may be left out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bundles import codec
from bundles.errors import LeewardError, RecipeInvalid
from bundles.manifest import check_path
from bundles.release import BundleKind, EngineRelease, LicenseEntry, Release, Requirements
from bundles.signing import Expiry

SCHEMA = "leeward-recipe/1"
MAX_RECIPE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Content for one folder of the release, and the source that delivers it."""

    into: str
    source: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe that parsed. `contents` are fetched in order."""

    schema: str
    name: str
    version: str
    epoch: int
    rollback_floor: int
    contents: tuple[Content, ...]
    engine: EngineRelease
    requirements: Requirements
    licenses: tuple[LicenseEntry, ...]
    expiry: Expiry = field(default_factory=Expiry)

    def release(self, *, created_at: datetime) -> Release:
        """Return the release that this recipe describes, still without files and pair."""
        return Release(
            kind=BundleKind.RELEASE,
            name=self.name,
            version=self.version,
            epoch=self.epoch,
            rollback_floor=self.rollback_floor,
            created_at=created_at,
            files=(),
            licenses=self.licenses,
            pair=None,
            engine=self.engine,
            requirements=self.requirements,
        )


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises RecipeInvalid with the place of the first fault."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise _invalid(path, f"it cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_RECIPE_BYTES:
        raise _invalid(path, f"it is larger than {MAX_RECIPE_BYTES:,} bytes")
    return parse_recipe(content, path)


def parse_recipe(content: bytes, path: Path) -> Recipe:
    """Read a recipe's bytes; `path` is for messages. Raises RecipeInvalid."""
    try:
        recipe = codec.from_plain(tomllib.loads(content.decode("utf-8")), Recipe)
    except (ValueError, RecursionError) as error:
        raise _invalid(path, str(error)) from error
    if recipe.schema != SCHEMA:
        raise _invalid(path, f"its schema is {recipe.schema!r}; this version of Leeward reads {SCHEMA!r}")
    if not recipe.contents:
        raise _invalid(path, "it has no contents")
    for part in recipe.contents:
        try:
            check_path(f"{part.into}/LICENSE")  # a name that every folder may hold
        except LeewardError as error:
            raise _invalid(path, f"into = {part.into!r}: {error.detail}") from error
    return recipe


def _invalid(path: Path, detail: str) -> RecipeInvalid:
    return RecipeInvalid(detail=f"{path}: {detail}", remedy="Correct the recipe; docs/design.md shows its shape.")
