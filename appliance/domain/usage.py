"""Usage: what one request cost, from admission to settlement.

ADMITTED ──► SETTLED     usage known from the engine's final chunk
    ├──────► PARTIAL     the client left or the engine was lost: last known counts
    └──────► ABANDONED   the gateway itself was killed; found at its next start
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from appliance.domain.tenancy import SITE_ENTITY, HolderKind, Priority


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


class UsageOutcome(StrEnum):
    """How a request ended, in one word for `UsageRecord.outcome`."""

    IN_FLIGHT = "in_flight"
    COMPLETED = "completed"
    CLIENT_CLOSED = "client_closed"
    UPSTREAM_REFUSED = "upstream_refused"  # the engine answered 4xx
    UPSTREAM_ERROR = "upstream_error"  # the engine could not be reached, or said that it failed
    UPSTREAM_LOST = "upstream_lost"  # the engine's answer broke off
    GATEWAY_STOPPED = "gateway_stopped"
    GATEWAY_ERROR = "gateway_error"  # a defect of the gateway
    GATEWAY_KILLED = "gateway_killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Token counts with OpenAI's names; `None` is unknown, not zero.

    Cached and image tokens are among those of the prompt, reasoning tokens among those of the completion.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    image_tokens: int | None = None


UNKNOWN_USAGE = TokenUsage(prompt_tokens=None, completion_tokens=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What is known before a request is forwarded; durable before it is.

    The two codes (hexadecimal HMAC-SHA-256 under the caller's own secret) are there if the caller
    gave an Idempotency-Key: they tell a repetition, and nobody without the secret what was asked.
    `caller_request_id` is what the caller itself calls the request; it need not be unique.
    """

    request_id: str
    key_id: str
    team: str
    model: str
    endpoint: str
    stream: bool
    admitted_at: datetime
    idempotency_mac: str | None = None
    body_mac: str | None = None
    caller_request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Running counts of an unfinished request: what a killed gateway leaves behind."""

    request_id: str
    first_token_at: datetime | None
    usage: TokenUsage
    usage_source: UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The end of a request. Only the first settlement of a request counts.

    `charged_tokens` is what quotas count; it differs from the sum of the counts only where they are unknown.
    """

    request_id: str
    state: UsageState
    settled_at: datetime
    first_token_at: datetime | None
    http_status: int
    outcome: UsageOutcome
    finish_reason: str | None
    usage: TokenUsage
    usage_source: UsageSource
    charged_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.state not in (UsageState.SETTLED, UsageState.PARTIAL):
            raise ValueError(f"a settlement cannot leave a record {self.state}")
        if (self.state is UsageState.SETTLED) != (self.usage_source is UsageSource.FINAL):
            raise ValueError("a record is settled if, and only if, its counts are final")


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
    caller_request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as the appliance knows it: only a hash of the secret is kept.

    `revoked_at` may lie ahead: a key that was replaced by another ends then. No `models` or
    `networks` means all of them. `entity` and `priority` are its team's, as they stand now.
    """

    key_id: str
    name: str
    team: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
    entity: str = SITE_ENTITY
    priority: Priority = Priority.STANDARD
    holder: str | None = None
    holder_kind: HolderKind | None = None
    expires_at: datetime | None = None
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    replaces: str | None = None

    @property
    def ends_at(self) -> datetime | None:
        """When its use ends or ended."""
        return min((at for at in (self.revoked_at, self.expires_at) if at is not None), default=None)

    def is_valid(self, at: datetime) -> bool:
        """Whether it can be used at a time."""
        return self.ends_at is None or at < self.ends_at


def new_request_id(at: datetime, entropy: bytes) -> str:
    """Make a UUID version 7 (RFC 9562, section 5.7) from a time and 10 random bytes.

    The text sorts by admission time, to the millisecond.
    """
    milliseconds = int(at.timestamp() * 1000)
    value = (milliseconds << 80) | int.from_bytes(entropy[:10], "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key with its secret, which is shown this once and stored nowhere."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """A usage record with its row number in the ledger, which says where to read on."""

    row: int
    record: UsageRecord
