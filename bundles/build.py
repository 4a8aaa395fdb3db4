"""Build a bundle from a recipe: fetch, then publish. Needs a connected build host.

The staging tree starts empty at every build and goes away afterwards; what was downloaded stays in
the cache, so a build that failed late is quick to repeat.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bundles import bootstrap
from bundles.errors import Canceled, SourceFailed
from bundles.keys import Keyring
from bundles.publish import BuildReport, publish
from bundles.recipe import Recipe, load_recipe
from bundles.sbom.write import sbom_files
from bundles.sources import SourceContext, make_source
from bundles.transfer import IsCanceled, Progress, never, silent


def build(
    recipe_path: Path,
    *,
    out: Path,
    keyring: Keyring,
    cache: Path,
    progress: Progress = silent,
    is_canceled: IsCanceled = never,
    unsigned: bool = False,
) -> BuildReport:
    """Build the recipe's release into the folder `out`.

    `created_at` is the present, or `SOURCE_DATE_EPOCH` (reproducible-builds.org) where that is set.
    An `unsigned` bundle waits for its release signers (`bundles.countersigning`).
    Raises RecipeInvalid, SourceFailed, and what `bundles.publish.publish` raises.
    """
    recipe = load_recipe(recipe_path)
    if not unsigned:
        for role in ("targets", "snapshot", "timestamp"):
            keyring.signers(role)  # a missing key shows now, not after hours of download
    cache.mkdir(parents=True, exist_ok=True)
    staging = cache / f"staging-{recipe.name}-{recipe.version}-e{recipe.epoch}"
    _empty(staging)
    try:
        _fetch(recipe, recipe_path.resolve().parent, staging, cache, progress, is_canceled)
        release = recipe.release(created_at=_created_at())
        return publish(
            staging,
            release,
            keyring,
            out=out,
            expiry=recipe.expiry,
            bootstrap=bootstrap.write,
            progress=progress,
            is_canceled=is_canceled,
            unsigned=unsigned,
            describe=partial(sbom_files, staging, release, recipe.contents),
        )
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(  # noqa: PLR0917  one caller, which names what it passes
    recipe: Recipe, folder: Path, staging: Path, cache: Path, progress: Progress, is_canceled: IsCanceled
) -> None:
    context = SourceContext(recipe_folder=folder, cache=cache.resolve(), progress=progress)
    sources = [(part.into, make_source(part.source, context)) for part in recipe.contents]
    for into, source in sources:
        if is_canceled():
            raise Canceled(detail=f"asked to stop before {into}", remedy="Start again; downloads are kept.")
        target = staging / into
        target.mkdir(parents=True, exist_ok=True)
        source.fetch(target)
        if not any(target.iterdir()):
            raise SourceFailed(
                detail=f"the source of {into} delivered nothing", remedy="Check the names in the recipe's source."
            )


def _empty(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()


def _created_at() -> datetime:
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(fixed), UTC) if fixed.isdecimal() else datetime.now(UTC)
    return moment.replace(microsecond=0)
