"""Content capture: off, unless the site's administrator has switched it on for an auditor, for a time.

The order is a file that the daemon writes and the gateway reads: `/etc/leeward/capture.json`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

LONGEST_CAPTURE = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOrder:
    """What holds: for whom (a public key in PEM and its SHA-256), why, by whom, from when until when."""

    auditor_pem: str
    auditor: str
    reason: str
    by: str
    since: datetime
    until: datetime

    def holds(self, at: datetime) -> bool:
        """Whether exchanges are captured at a time."""
        return self.since <= at < self.until


def order_to_text(order: CaptureOrder) -> str:
    """Write an order."""
    plain = asdict(order) | {"since": order.since.isoformat(), "until": order.until.isoformat()}
    return json.dumps(plain, indent=1, sort_keys=True) + "\n"


def order_from_text(text: str) -> CaptureOrder:
    """Read an order; raises ValueError."""
    plain = json.loads(text)
    if not isinstance(plain, dict) or set(plain) != set(CaptureOrder.__dataclass_fields__):
        raise ValueError("its fields are not those of an order to capture")
    if not all(isinstance(value, str) for value in plain.values()):
        raise ValueError("a field is no text")
    times = {name: datetime.fromisoformat(plain[name]) for name in ("since", "until")}
    if any(at.tzinfo is None for at in times.values()):
        raise ValueError("a time has no zone")
    return CaptureOrder(**(plain | times))
