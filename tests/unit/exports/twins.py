"""Twins of the ports in memory, with the same rules as the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from appliance.domain.audit import GENESIS, AuditEntry, link
from appliance.domain.errors import NotFound
from appliance.domain.events import Event, EventRecord
from appliance.domain.license import Attestation, LicenseTerms
from appliance.domain.node import NodeFacts
from appliance.domain.operation import Actor, OperationId, OperationRequest
from appliance.domain.tenancy import KeyTerms
from appliance.domain.usage import ApiKey, TokenUsage, UsageRecord, UsageSource, UsageState

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


class TwinClock:
    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


class TwinAuditLog:
    def __init__(self) -> None:
        self.written: list[AuditEntry] = []

    def append(self, *, actor: str, action: str, object_: str, outcome: str, details: Mapping[str, str]) -> AuditEntry:
        head = self.head()
        entry = link(
            seq=len(self.written) + 1,
            at=NOW + timedelta(seconds=len(self.written)),
            actor=actor,
            action=action,
            object_=object_,
            outcome=outcome,
            details=dict(details),
            previous_hash=head.entry_hash if head else GENESIS,
        )
        self.written.append(entry)
        return entry

    def entries(self, after: int = 0, limit: int = 1_000) -> list[AuditEntry]:
        return self.written[after : after + limit]

    def head(self) -> AuditEntry | None:
        return self.written[-1] if self.written else None

    def count(self) -> int:
        return len(self.written)

    def acts(self) -> list[tuple[str, str]]:
        return [(entry.action, entry.outcome) for entry in self.written]


class TwinUsage:
    def __init__(self, records: list[UsageRecord] | None = None) -> None:
        self.rows = records or []
        self.largest_page = 0

    def records(self, after: int = 0, limit: int = 1_000) -> list[tuple[int, UsageRecord]]:
        page = list(enumerate(self.rows, start=1))[after : after + limit]
        self.largest_page = max(self.largest_page, len(page))
        return page

    def counts(self) -> tuple[int, int]:
        return len(self.rows), sum(1 for row in self.rows if row.state is UsageState.ADMITTED)


class TwinKeys:
    def __init__(self) -> None:
        self.made: list[ApiKey] = []
        self.fails: NotFound | None = None

    def create(self, *, name: str, team: str, at: datetime, terms: KeyTerms | None = None) -> tuple[ApiKey, str]:
        assert terms in (None, KeyTerms())
        if self.fails:
            raise self.fails
        number = len(self.made) + 1
        key = ApiKey(key_id=f"key_{number}", name=name, team=team, prefix="lwd_abcd", created_at=at, revoked_at=None)
        self.made.append(key)
        return key, f"lwd_abcd-secret-{number}"

    def revoke(self, key_id: str, at: datetime) -> None:
        for index, key in enumerate(self.made):
            if key.key_id == key_id:
                self.made[index] = replace(key, revoked_at=at)
                return
        raise NotFound(detail=f"There is no key {key_id}.", remedy="List the keys.")

    def keys(self) -> list[ApiKey]:
        return list(self.made)


class TwinLicenses:
    def __init__(self) -> None:
        self.kept_terms: list[LicenseTerms] = []
        self.kept_attestations: list[Attestation] = []

    def add_terms(self, terms: LicenseTerms) -> None:
        self.kept_terms.append(terms)

    def add_attestation(self, attestation: Attestation) -> None:
        self.kept_attestations.append(attestation)

    def terms(self) -> tuple[LicenseTerms, ...]:
        return tuple(self.kept_terms)

    def attestations(self) -> tuple[Attestation, ...]:
        return tuple(self.kept_attestations)


class TwinJournal:
    def __init__(self) -> None:
        self.kept: dict[OperationId, tuple[OperationRequest, Actor, list[EventRecord]]] = {}

    def create(self, operation_id: OperationId, request: OperationRequest, actor: Actor, at: datetime) -> None:
        del at
        self.kept[operation_id] = (request, actor, [])

    def append(self, operation_id: OperationId, event: Event, at: datetime) -> EventRecord:
        records = self.kept[operation_id][2]
        record = EventRecord(operation_id=operation_id, seq=len(records) + 1, at=at, event=event)
        records.append(record)
        return record

    def records(self, operation_id: OperationId, after: int = 0, limit: int = 10_000) -> list[EventRecord]:
        return self.kept[operation_id][2][after : after + limit]

    def operations(self, limit: int = 100) -> list[tuple[OperationId, OperationRequest, Actor]]:
        newest_first = reversed(self.kept.items())
        return [(operation_id, kept[0], kept[1]) for operation_id, kept in newest_first][:limit]

    def unfinished(self) -> tuple[OperationId, OperationRequest, Actor] | None:
        return None


class TwinProbe:
    def __init__(self, facts: NodeFacts) -> None:
        self.seen = facts
        self.looks = 0

    def facts(self) -> NodeFacts:
        self.looks += 1
        return self.seen


def usage_record(number: int, *, team: str = "research", state: UsageState = UsageState.SETTLED) -> UsageRecord:
    at = NOW + timedelta(seconds=number)
    is_settled = state is UsageState.SETTLED
    return UsageRecord(
        request_id=f"r-{number:06d}",
        state=state,
        key_id="key_1",
        team=team,
        model="mistral-medium",
        endpoint="/v1/chat/completions",
        stream=True,
        admitted_at=at,
        first_token_at=at + timedelta(milliseconds=120) if is_settled else None,
        settled_at=at + timedelta(seconds=2) if is_settled else None,
        http_status=200 if is_settled else None,
        outcome="completed" if is_settled else "in_flight",
        finish_reason="stop" if is_settled else None,
        usage=TokenUsage(
            prompt_tokens=10 if is_settled else None,
            completion_tokens=number if is_settled else None,
            cached_tokens=None,
        ),
        usage_source=UsageSource.FINAL if is_settled else UsageSource.NONE,
    )
