"""Usage: what one request cost, from admission to settlement.

ADMITTED ──► SETTLED     usage known from the engine's final chunk
    ├──────► PARTIAL     the client left or the engine was lost: last known counts
    └──────► ABANDONED   the gateway itself was killed; found at its next start
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class UsageState(StrEnum):
    ADMITTED = "admitted"
    SETTLED = "settled"
    PARTIAL = "partial"
    ABANDONED = "abandoned"


class UsageSource(StrEnum):
    """Where the counts come from: the engine's last chunk, a running count, or nowhere."""

    FINAL = "final"
    CONTINUOUS = "continuous"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Token counts with OpenAI's names; `None` is unknown, not zero."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One row of the ledger. No prompt and no completion text is in it."""

    request_id: str
    state: UsageState
    key_id: str
    team: str
    model: str
    endpoint: str
    stream: bool
    admitted_at: datetime
    first_token_at: datetime | None
    settled_at: datetime | None
    http_status: int | None
    outcome: str
    finish_reason: str | None
    usage: TokenUsage
    usage_source: UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as the appliance knows it: only a hash of the secret is kept."""

    key_id: str
    name: str
    team: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
