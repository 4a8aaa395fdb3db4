"""What daemon and gateway tell each other of engines, in two folders of /run, so until the node restarts.

The daemon writes which engines are drained, one empty file each; the gateway, which must not reach the
daemon, reads that each second and writes how the engines stand.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from appliance.domain.errors import StateUnusable
from appliance.domain.routing import EngineStanding

STALE_S = 5.0
_MOST_BYTES = 256 * 1024


class EngineBoard:
    """`ports.EngineBoard`: the daemon's side."""

    def __init__(self, *, drained: Path, standings: Path) -> None:
        self._drained = drained
        self._standings = standings

    def drained(self) -> frozenset[str]:
        try:
            return frozenset(one.name for one in self._drained.iterdir())
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise _unusable(self._drained, error) from error

    def set_drained(self, name: str, *, is_drained: bool) -> None:
        try:
            if is_drained:
                self._drained.mkdir(mode=0o755, exist_ok=True)
                (self._drained / name).touch()
            else:
                (self._drained / name).unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self._drained, error) from error

    def standings(self) -> tuple[EngineStanding, ...] | None:
        try:
            with self._standings.open("rb") as file:
                told = json.loads(file.read(_MOST_BYTES))
            if time.time() - float(told["at"]) > STALE_S:
                return None
            return tuple(EngineStanding(**one) for one in told["engines"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class StandingsFile:
    """The gateway's side: says each second how engines stand, if it has a folder for that."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, engines: tuple[EngineStanding, ...]) -> None:
        """Replace what is there. Raises OSError."""
        plain = [{name: getattr(one, name) for name in EngineStanding.__slots__} for one in engines]
        fresh = self._path.with_name(f".{self._path.name}")
        fresh.write_text(json.dumps({"at": time.time(), "engines": plain}), encoding="utf-8")
        fresh.replace(self._path)


def _unusable(path: Path, error: OSError) -> StateUnusable:
    return StateUnusable(detail=f"{path}: {error.strerror}.", remedy="Restart the management daemon, then try again.")
