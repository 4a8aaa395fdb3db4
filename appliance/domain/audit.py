"""Audit: one entry per act, each linked to the one before by SHA-256.

    hash(n) = SHA-256( hash(n-1) || canonical JSON of entry n without its hash )

The first entry links to 32 zero bytes. Editing, removing or reordering an entry breaks every later
hash; truncation shows against a head that someone else holds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act: who did what to what, with which result. `seq` starts at 1 and has no gaps."""

    seq: int
    at: datetime
    actor: str
    action: str
    object: str
    outcome: str
    details: dict[str, str]
    previous_hash: str
    entry_hash: str


def link(
    *,
    seq: int,
    at: datetime,
    actor: str,
    action: str,
    object_: str,
    outcome: str,
    details: dict[str, str],
    previous_hash: str,
) -> AuditEntry:
    """Make the entry that follows `previous_hash`."""
    body = {
        "seq": seq,
        "at": at.isoformat(),
        "actor": actor,
        "action": action,
        "object": object_,
        "outcome": outcome,
        "details": details,
    }
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    digest = hashlib.sha256(bytes.fromhex(previous_hash) + canonical).hexdigest()
    return AuditEntry(
        seq=seq, at=at, actor=actor, action=action, object=object_, outcome=outcome,
        details=details, previous_hash=previous_hash, entry_hash=digest,
    )  # fmt: skip


def first_broken(entries: list[AuditEntry], *, previous_hash: str = GENESIS, first_seq: int = 1) -> int | None:
    """Return the sequence number at which the chain breaks, or `None` where it holds."""
    for offset, entry in enumerate(entries):
        expected = link(
            seq=first_seq + offset, at=entry.at, actor=entry.actor, action=entry.action, object_=entry.object,
            outcome=entry.outcome, details=entry.details, previous_hash=previous_hash,
        )  # fmt: skip
        if expected != entry:
            return first_seq + offset
        previous_hash = entry.entry_hash
    return None
