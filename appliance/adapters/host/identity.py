"""A secret of this machine's own, made from its machine id."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final

_PURPOSE: Final = b"leeward redaction of facts"


def redaction_key(machine_id: Path = Path("/etc/machine-id")) -> bytes | None:
    """Return the key for pseudonyms, or `None` on a machine without an id.

    machine-id(5) asks never to show the id itself and to use an HMAC keyed by it instead.
    """
    try:
        secret = machine_id.read_bytes().strip()
    except OSError:
        return None
    return hmac.digest(secret, _PURPOSE, hashlib.sha256) if secret else None
