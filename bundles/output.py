"""A bundle's folder appears whole or not at all.

Everything is written to `.NAME.partial` beside it, made durable, and renamed; a bundle that it
replaces waits as `.NAME.old` until then. All names are made by this module; it removes nothing else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundles.errors import OutputOccupied, StoreFull
from bundles.layout import FOLDERS, METADATA, VOLUME
from bundles.transfer import fsync_folder

_OF_A_BUNDLE = frozenset({*FOLDERS, VOLUME, "bootstrap", "READ-ME-FIRST.txt"})


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give the folder to write to (not there yet); when the block ends well, it becomes `out`.

    Raises OutputOccupied where `out` holds something else than a bundle. After any error `out` is
    as it was.
    """
    _check_output(out)
    partial = out.with_name(f".{out.name}.partial")
    _discard(partial)
    try:
        yield partial
        _make_durable(partial)
        _adopt(partial, out)
    except BaseException:
        _discard(partial)
        raise


def check_room(folder: Path, needed_bytes: int) -> None:
    """Check that `folder`'s file system has room; raises StoreFull with both numbers."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise StoreFull(
            detail=f"the bundle needs {needed_bytes:,} bytes; {folder} has {free:,} free",
            remedy="Free some space there or name another folder with `--out`.",
        )


def _check_output(out: Path) -> None:
    if out.is_mount():
        raise OutputOccupied(detail=f"{out} is a mount point", remedy=f"Name a new folder on it: {out / 'leeward'}.")
    replaced = _old(out)
    if not out.exists() and replaced.exists():  # killed between the two renames of _adopt
        replaced.rename(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputOccupied(detail=f"{out} is not a folder", remedy="Name a new or empty folder.")
    found = {path.name for path in out.iterdir()}
    others = sorted(found - _OF_A_BUNDLE)
    if others or (found and not (out / METADATA / "timestamp.json").is_file()):
        raise OutputOccupied(
            detail=f"{out} holds something that is not a bundle" + (f": {', '.join(others[:5])}" if others else ""),
            remedy="Name a new or empty folder, or one with a bundle that may be replaced.",
        )


def _make_durable(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _adopt(partial: Path, out: Path) -> None:
    old = _old(out)
    _discard(old)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    fsync_folder(out.parent)
    _discard(old)


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


def _discard(folder: Path) -> None:
    """Remove a folder that an earlier or this build made under a name of its own."""
    if folder.exists():
        shutil.rmtree(folder)
