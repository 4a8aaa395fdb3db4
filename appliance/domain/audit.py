"""Audit: one entry per act, each linked to the one before by SHA-256.

    hash(n) = SHA-256( hash(n-1) || canonical JSON of entry n without its hash )

The first entry links to 32 zero bytes. Editing, removing or reordering an entry breaks every later
hash; truncation shows against a head that someone else holds. Whoever can write the whole log can
write a new one that holds together: only a head that was kept elsewhere shows that.

An exported log has one entry a line (`to_line`), which `follow` reads in bounded memory. This
module needs the standard library alone, so that an auditor's machine can run it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
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
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What following a log found: how many entries hold, the head they lead to, and where it breaks."""

    entries: int
    head: str
    broken_at: int | None
    reason: str

    @property
    def holds(self) -> bool:
        """Whether every entry follows from the one before."""
        return self.broken_at is None


def follow(entries: Iterable[AuditEntry]) -> Chain:
    """Follow a log from its first entry to its end or its first break; reads one entry at a time."""
    head, count = GENESIS, 0
    for entry in entries:
        if first_broken([entry], previous_hash=head, first_seq=count + 1) is not None:
            reason = f"entry {count + 1} does not follow from the one before: it was changed, removed or moved"
            return Chain(entries=count, head=head, broken_at=count + 1, reason=reason)
        head, count = entry.entry_hash, count + 1
    return Chain(entries=count, head=head, broken_at=None, reason="")


def follow_lines(lines: Iterable[str], *, expected_head: str | None = None) -> Chain:
    """Follow an exported log, one JSON object a line; a line that cannot be read is a break.

    `expected_head` is a head that the reader got another way: where the log ends elsewhere, it was
    cut or rewritten, and the break is reported behind its last entry.
    """
    unread: list[str] = []

    def entries() -> Iterator[AuditEntry]:
        for line in lines:
            try:
                yield from_line(line)
            except ValueError as error:
                unread.append(str(error))
                return

    chain = follow(entries())
    if not chain.holds:
        return chain
    broken_at = chain.entries + 1
    if unread:
        reason = f"line {broken_at} is not an audit entry: {unread[0]}"
        return Chain(entries=chain.entries, head=chain.head, broken_at=broken_at, reason=reason)
    if expected_head is not None and chain.head != expected_head:
        reason = f"the log ends at {chain.head}, but the head that is known is {expected_head}"
        return Chain(entries=chain.entries, head=chain.head, broken_at=broken_at, reason=reason)
    return chain


def to_line(entry: AuditEntry) -> str:
    """Return the entry as one line of JSON in ASCII, without its line break."""
    plain = asdict(entry)
    plain["at"] = entry.at.isoformat()
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def from_line(line: str) -> AuditEntry:
    """Read an entry back; raises ValueError where the line is anything else."""
    plain = json.loads(line)
    if not isinstance(plain, dict) or set(plain) != set(AuditEntry.__dataclass_fields__):
        raise ValueError("its fields are not those of an audit entry")
    words = ("actor", "action", "object", "outcome", "previous_hash", "entry_hash")
    if not all(isinstance(plain[name], str) for name in (*words, "at")) or type(plain["seq"]) is not int:
        raise ValueError("a field has a value of the wrong kind")
    details = plain["details"]
    if not isinstance(details, dict) or not all(isinstance(value, str) for value in details.values()):
        raise ValueError("its details are not words")
    return AuditEntry(**{**plain, "at": datetime.fromisoformat(plain["at"])})
