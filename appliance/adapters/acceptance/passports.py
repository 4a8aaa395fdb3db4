"""Passports as files of root in one folder: one for each acceptance that ended, all of them kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from cattrs import BaseValidationError

from appliance.adapters.durable import write_whole
from appliance.domain.acceptance import BurnInResult, Passport
from appliance.domain.errors import NotFound, StateUnusable
from appliance.domain.operation import OperationId
from appliance.domain.wire import from_plain, to_plain
from bundles.errors import StoreUnusable

T = TypeVar("T")
_NAME: Final = "[0-9A-Za-z-]+"


class PassportFolder:
    """Implements `appliance.ports.PassportStore`. A file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep_burn_in(self, operation_id: OperationId, result: BurnInResult) -> None:
        for old in self._folder.glob("*.burn-in"):
            old.unlink(missing_ok=True)  # of operations that ended without a passport; one runs at a time
        self._write(self._path(operation_id, "burn-in"), to_plain(result))

    def burn_in(self, operation_id: OperationId) -> BurnInResult:
        path = self._path(operation_id, "burn-in")
        if not path.is_file():
            raise NotFound(
                detail=f"operation {operation_id} has no burn-in", remedy="Start it again: `leeward acceptance`."
            )
        return _read(path, lambda plain: from_plain(plain, BurnInResult))

    def keep(self, passport: Passport) -> None:
        self._write(self._path(passport.id, "json"), to_plain(passport))
        self._path(passport.id, "burn-in").unlink(missing_ok=True)

    def passports(self) -> tuple[Passport, ...]:
        files = sorted(path for path in self._folder.glob("*.json") if re.fullmatch(_NAME, path.stem))
        return tuple(_read(path, lambda plain: from_plain(plain, Passport)) for path in files)

    def _path(self, name: str, kind: str) -> Path:
        if not re.fullmatch(_NAME, name):
            raise NotFound(detail=f"{name!a} is not an operation's id", remedy="List them: `leeward passport --all`.")
        return self._folder / f"{name}.{kind}"

    def _write(self, path: Path, plain: object) -> None:
        text = json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        try:
            write_whole(path, text.encode() + b"\n")
        except OSError as error:
            raise StoreUnusable(
                detail=f"{path} could not be written: {error}",
                remedy="Look at the file system (`journalctl -k`), then measure again.",
            ) from error


def _read(path: Path, reading: Callable[[Any], T]) -> T:
    try:
        return reading(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, BaseValidationError) as error:
        raise StateUnusable(
            detail=f"{path} is not a passport that this version reads.",
            remedy="Move it away for the makers of Leeward, then run `leeward acceptance`.",
        ) from error
