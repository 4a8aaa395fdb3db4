"""Plans as files of root in one folder, each under its own digest."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from cattrs import BaseValidationError

from appliance.adapters.durable import write_whole
from appliance.domain.errors import NotFound, StateUnusable
from appliance.domain.plan import Plan
from appliance.domain.wire import from_plain
from bundles.errors import StoreUnusable


class PlanFolder:
    """`appliance.ports.PlanStore` as a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, plan: Plan) -> None:
        """Write a plan whole or not at all; raises StoreUnusable where the disk refuses."""
        path = self._path(plan.digest)
        try:
            write_whole(path, plan.to_bytes())
        except OSError as error:
            raise StoreUnusable(
                detail=f"the plan could not be stored in {self._folder}: {error}",
                remedy="Look at the file system (`journalctl -k`), then plan again.",
            ) from error

    def plan(self, digest: str) -> Plan:
        """Read a plan; raises NotFound, or StateUnusable where its bytes do not have that digest."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise _unknown(digest) from error
        try:
            plan = from_plain(json.loads(content), Plan)
        except (BaseValidationError, KeyError, ValueError) as error:
            raise _damaged(path) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise _damaged(path)
        return plan

    def _path(self, digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise _unknown(digest)
        return self._folder / f"{digest}.json"


def _unknown(digest: str) -> NotFound:
    return NotFound(
        detail=f"No plan with the digest {digest!a} was made on this node.",
        remedy="Give all 64 digits, or make a plan with `leeward plan`.",
    )


def _damaged(path: Path) -> StateUnusable:
    return StateUnusable(detail=f"{path} is not the plan that its name says.", remedy="Make a new one: `leeward plan`.")
