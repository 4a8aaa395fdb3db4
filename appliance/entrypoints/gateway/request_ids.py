"""By which ids a request is known: ours, and the one that its caller gave it.

Ours is made here, is unique, and is what ledger, engine and log know the request by. A caller may
bring an id of its own as `x-request-id`; it stands beside ours in the ledger and the log, and the
answer bears it again. It is never used in the place of ours: callers repeat ids when they try again,
and a tenant could take the id of another's record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from appliance.entrypoints.gateway.answers import Header

REQUEST_ID = b"x-request-id"
RECORD_ID = b"x-leeward-request-id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def caller_request_id(headers: Iterable[Header]) -> str | None:
    """Return the id that a caller gave; `None` for none, or one of other than 1 to 64 letters, digits and `._-`."""
    for name, value in headers:
        if name == REQUEST_ID:
            return value.decode() if _WELL_FORMED.fullmatch(value) else None
    return None


def id_headers(request_id: str, callers: str | None) -> list[Header]:
    """Return the headers of an answer that name the request: as its caller knows it, and as the ledger does."""
    ours = request_id.encode()
    return [(REQUEST_ID, callers.encode() if callers else ours), (RECORD_ID, ours)]
