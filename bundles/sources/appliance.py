"""`kind = "appliance"`: Leeward's own wheel, built from the checkout, and everything it needs on a node.

Table (all optional): `checkout`, the folder with `pyproject.toml` (from the recipe's folder; default
`../..`), and `lock`, the hash-pinned requirements of a node (from the checkout; default
`requirements/node.txt`). A package of the lock that comes only as a source archive is built into a
wheel here, so that a node never compiles.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import SourceContext, text
from bundles.sources.wheelhouse import Wheel, Wheelhouse, read_lock, run_pip, sha256_of, ship

NAME = "leeward"


class ApplianceSource:
    """Delivers `wheels/*.whl` and `requirements.lock`, in which `leeward` itself is pinned too."""

    def __init__(self, table: Mapping[str, object], context: SourceContext) -> None:
        self._context = context
        self._checkout = (context.recipe_folder / text(table, "checkout", "../..")).resolve()
        lock = self._checkout / text(table, "lock", "requirements/node.txt")
        if not (self._checkout / "pyproject.toml").is_file():
            raise RecipeInvalid(
                detail=f"{self._checkout} holds no pyproject.toml",
                remedy="Give `checkout`, the folder of Leeward's source, in the recipe's source.",
            )
        try:
            self._pins = read_lock(lock.read_text(encoding="utf-8"), origin=lock.name)
        except OSError as error:
            raise RecipeInvalid(
                detail=f"lock {lock} cannot be read: {error.strerror}",
                remedy="Give `lock`, the hash-pinned requirements of a node, in the recipe's source.",
            ) from error

    def fetch(self, into: Path) -> None:
        wheels = Wheelhouse(self._context).fetch(self._pins, allow_builds=True)
        with tempfile.TemporaryDirectory(dir=self._context.cache, prefix=".appliance-") as scratch:
            ship([*wheels, self._own_wheel(Path(scratch))], into)

    def _own_wheel(self, folder: Path) -> Wheel:
        """Build Leeward's wheel: with an installed hatchling where there is one, else isolated."""
        self._context.progress(NAME, 0, 1)
        isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
        run_pip(["wheel", str(self._checkout), "--no-deps", *isolation, "--wheel-dir", str(folder)])
        built = sorted(folder.glob(f"{NAME}-*.whl"))
        if len(built) != 1:
            raise SourceFailed(
                detail=f"building {self._checkout} gave {len(built)} wheels of {NAME} instead of one",
                remedy="Run `pip wheel --no-deps .` in the checkout and look at what it says.",
            )
        self._context.progress(NAME, 1, 1)
        return Wheel(path=built[0], name=NAME, version=built[0].name.split("-")[1], sha256=sha256_of(built[0]))
