"""A folder on the build host.

    source = { kind = "folder", path = "../../playbooks", include = ["**/*.yml"], exclude = ["**/test_*"] }

`path` starts at the recipe's folder. Globs are matched against the POSIX path below it; `**` crosses
folders. Python's own leftovers and hidden files are never taken. Symbolic links are refused: what
they point to could change between two builds.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from bundles.errors import SourceFailed
from bundles.sources import SourceContext, text, texts

_LEFTOVERS = frozenset({"__pycache__"})


class FolderSource:
    """Copies the chosen files of one folder."""

    def __init__(self, table: Mapping[str, object], context: SourceContext) -> None:
        self._folder = context.recipe_folder / text(table, "path")
        self._include = tuple(map(_pattern, texts(table, "include", ("**",))))
        self._exclude = tuple(map(_pattern, texts(table, "exclude")))
        self._progress = context.progress

    def fetch(self, into: Path) -> None:
        """Copy. Raises SourceFailed where the folder is missing, holds a link, or nothing matches."""
        if not self._folder.is_dir():
            raise SourceFailed(
                detail=f"{self._folder} is not a folder", remedy="Correct `path`, which starts at the recipe's folder."
            )
        chosen = self._chosen()
        if not chosen:
            raise SourceFailed(
                detail=f"no file in {self._folder} matches", remedy="Correct `include` and `exclude` in the recipe."
            )
        for count, path in enumerate(chosen, start=1):
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._folder / path, target, follow_symlinks=False)
            self._progress(path, count, len(chosen))

    def _chosen(self) -> list[str]:
        chosen = []
        for folder, folders, names in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _LEFTOVERS)
            for name in (*folders, *names):
                found = Path(folder, name)
                path = found.relative_to(self._folder).as_posix()
                mode = found.lstat().st_mode
                if stat.S_ISDIR(mode) or name.startswith(".") or not self._wanted(path):
                    continue
                if not stat.S_ISREG(mode):
                    raise SourceFailed(
                        detail=f"{found} is not a regular file",
                        remedy="Replace the link by the file, or name it in `exclude`.",
                    )
                chosen.append(path)
        return sorted(chosen)

    def _wanted(self, path: str) -> bool:
        included = any(pattern.fullmatch(path) for pattern in self._include)
        return included and not any(pattern.fullmatch(path) for pattern in self._exclude)


def _pattern(glob: str) -> re.Pattern[str]:
    """Translate a glob: `**/` is any folders or none, `**` anything, `*` and `?` stay within one name."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", glob)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    translated = (
        known.get(piece) or (fnmatch.translate(piece)[4:-3] if piece.startswith("[") else re.escape(piece))
        for piece in pieces
    )
    return re.compile("".join(translated), re.DOTALL)
