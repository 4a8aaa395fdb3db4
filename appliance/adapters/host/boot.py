"""This boot of the node: its id, and the reasons that a play has set down for ending it.

The kernel draws the id at each start (random(4), `boot_id`); a container has one of its own. Reasons
lie in memory, one file each, so that a restart makes them all untrue (role `nvidia_driver`).
"""

from __future__ import annotations

import json
from pathlib import Path

from appliance.domain.errors import StateUnusable
from appliance.domain.restart import RestartReason

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MAX_REASON_BYTES = 4_096


class BootFiles:
    """`ports.NodeBoot`; `reasons` is the folder of reasons, which may be absent."""

    def __init__(self, reasons: Path, boot_id: Path = BOOT_ID) -> None:
        self._reasons = reasons
        self._boot_id = boot_id

    def boot_id(self) -> str:
        return self._boot_id.read_text(encoding="ascii").strip()

    def reasons(self) -> tuple[RestartReason, ...]:
        """Return the reasons by name. Raises StateUnusable for a file that does not hold one."""
        if not self._reasons.is_dir():
            return ()
        return tuple(_reason(path) for path in sorted(self._reasons.iterdir()) if not path.name.startswith("."))


def _reason(path: Path) -> RestartReason:
    try:
        with path.open("rb") as stream:
            plain = json.loads(stream.read(MAX_REASON_BYTES))
        return RestartReason(name=path.name, text=str(plain["reason"]), at_console=bool(plain["at_console"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateUnusable(
            detail=f"{path} does not hold a reason for a restart: {error}",
            remedy=f"Remove {path}, then run `leeward provision`: its play writes it again where it is true.",
        ) from error
