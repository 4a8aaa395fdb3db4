"""Which paths a bundle may hold. Pure.

A path is POSIX, relative and plain ASCII, so that it means the same on ext4, FAT32, exFAT and an
auditor's Windows laptop, and so that no name can leave the folder it is written to. Under
`weights/` only formats that cannot carry code are allowed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from bundles.errors import ReleaseInvalid

MAX_PATH_CHARACTERS = 512
MAX_DEPTH = 20
MAX_FILES = 100_000

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~@-]{0,160}")
_DOS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)
_WEIGHTS = "weights/"
_WEIGHT_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".jinja", ".md"})
_WEIGHT_NAME = re.compile(r"(LICEN[CS]E|NOTICE|COPYING|COPYRIGHT)([._-][A-Za-z0-9._-]*)?", re.IGNORECASE)
_CODE_SUFFIXES = frozenset(
    {".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".keras", ".npy", ".npz", ".pickle", ".pkl"}
    | {".pt", ".pt2", ".pth", ".py", ".so"}
)
_REMEDY = "The publisher must correct the release and sign it again; do not import this bundle."


def check_path(path: str) -> None:
    """Check one path against the grammar; raises ReleaseInvalid with the rule that it breaks."""
    fault = _path_fault(path) or _weights_fault(path)
    if fault:
        raise ReleaseInvalid(detail=f"path {_shown(path)} {fault}", remedy=_REMEDY)


def check_paths(paths: Iterable[str]) -> None:
    """Check all paths of a release, one by one and against each other.

    Raises ReleaseInvalid for a path outside the grammar, a path given twice, two paths (or two
    folders on the way to them) that differ only in case or Unicode form, and a file that is also
    used as a folder.
    """
    spelling: dict[str, str] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for count, path in enumerate(paths, start=1):
        if count > MAX_FILES:
            raise ReleaseInvalid(detail=f"there are more than {MAX_FILES:,} files", remedy=_REMEDY)
        check_path(path)
        if path in files:
            raise ReleaseInvalid(detail=f"path {_shown(path)} is listed twice", remedy=_REMEDY)
        files.add(path)
        parents = _parents(path)
        folders.update(parents)
        for name in (*parents, path):
            known = spelling.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
            if known != name:
                raise ReleaseInvalid(
                    detail=f"paths {_shown(known)} and {_shown(name)} differ only in case or Unicode form",
                    remedy=_REMEDY,
                )
    both = files & folders
    if both:
        raise ReleaseInvalid(detail=f"{_shown(min(both))} is both a file and a folder", remedy=_REMEDY)


def section(path: str) -> str:
    """Return the part of a release that `path` belongs to: its first folder, or two for weights and licences."""
    segments = path.split("/")
    depth = 2 if segments[0] in {"weights", "licenses"} else 1
    return "/".join(segments[:depth]) if len(segments) > depth else segments[0]


def _parents(path: str) -> list[str]:
    segments = path.split("/")
    return ["/".join(segments[:depth]) for depth in range(1, len(segments))]


def _path_fault(path: str) -> str | None:
    if len(path) > MAX_PATH_CHARACTERS:
        return f"is longer than {MAX_PATH_CHARACTERS} characters"
    segments = path.split("/")
    if len(segments) > MAX_DEPTH:
        return f"has more than {MAX_DEPTH} levels"
    for segment in segments:
        fault = segment_fault(segment)
        if fault:
            return fault
    return None


def segment_fault(segment: str) -> str | None:
    """Say what is wrong with one name of a path, or None."""
    if not _SEGMENT.fullmatch(segment):
        return f"has the name {_shown(segment)}, which is not [A-Za-z0-9_][A-Za-z0-9._+~@-]{{0,160}}"
    if segment.endswith("."):
        return f"has the name {_shown(segment)}, which ends in a dot"
    if segment.split(".", 1)[0].lower() in _DOS_DEVICES:
        return f"has the name {_shown(segment)}, which is a device on some systems"
    return None


def _weights_fault(path: str) -> str | None:
    if not path.casefold().startswith(_WEIGHTS):
        return None
    name = path.rsplit("/", 1)[-1]
    suffix = f".{name.rsplit('.', 1)[-1].lower()}" if "." in name else ""
    if suffix in _CODE_SUFFIXES:
        return f"is in a format that can carry code ({suffix}); weights travel as safetensors only"
    if suffix in _WEIGHT_SUFFIXES or _WEIGHT_NAME.fullmatch(name):
        return None
    return f"is not one of {' '.join(sorted(_WEIGHT_SUFFIXES))} or a licence text, which is all that weights/ may hold"


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 200 else f"{text[:200]}…")  # noqa: PLR2004  enough to recognise a name
