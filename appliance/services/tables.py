"""Usage as tables: CSV for people, JSON lines for machines, and sums. Pure, one record at a time.

CSV has a header and is made harmless for spreadsheets (`domain.sheet`). JSON lines hold every text
as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from appliance.domain.sheet import Cell
from appliance.domain.usage import UsageRecord, UsageState

USAGE_COLUMNS: Final = (
    "seq", "request_id", "state", "outcome", "finish_reason", "http_status", "key_id", "team", "model", "endpoint",
    "stream", "admitted_at", "first_token_at", "settled_at", "prompt_tokens", "completion_tokens", "cached_tokens",
    "reasoning_tokens", "usage_source", "caller_request_id", "image_tokens",
)  # fmt: skip
SUM_COLUMNS: Final = (
    "month", "team", "model", "requests", "settled", "partial", "abandoned", "admitted", "prompt_tokens",
    "completion_tokens", "cached_tokens", "reasoning_tokens", "requests_with_unknown_tokens",
)  # fmt: skip


def json_line(plain: Mapping[str, object]) -> str:
    """Return one line of JSON in ASCII with its line break."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":")) + "\n"


def usage_cells(seq: int, record: UsageRecord) -> dict[str, Cell]:
    """Return one record's values by column, in the order of `USAGE_COLUMNS`."""
    values: tuple[Cell, ...] = (
        seq, record.request_id, record.state.value, str(record.outcome), record.finish_reason, record.http_status,
        record.key_id, record.team, record.model, record.endpoint, record.stream, moment(record.admitted_at),
        moment(record.first_token_at), moment(record.settled_at), record.usage.prompt_tokens,
        record.usage.completion_tokens, record.usage.cached_tokens, record.usage.reasoning_tokens,
        record.usage_source.value, record.caller_request_id, record.usage.image_tokens,
    )  # fmt: skip
    return dict(zip(USAGE_COLUMNS, values, strict=True))


def moment(at: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC, to the microsecond."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(slots=True, kw_only=True)
class _Sum:
    states: dict[UsageState, int] = field(default_factory=lambda: dict.fromkeys(UsageState, 0))
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    unknown: int = 0


@dataclass(slots=True)
class UsageSums:
    """Sums by month of admission (UTC), team and model; grows with their number, not with the ledger's."""

    _sums: dict[tuple[str, str, str], _Sum] = field(default_factory=dict)
    records: int = 0

    def add(self, record: UsageRecord) -> None:
        """Count one record."""
        key = (f"{record.admitted_at.astimezone(UTC):%Y-%m}", record.team, record.model)
        total = self._sums.setdefault(key, _Sum())
        usage = record.usage
        counts = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens)
        total.states[record.state] += 1
        total.tokens = [sum_ + (count or 0) for sum_, count in zip(total.tokens, counts, strict=True)]
        total.unknown += usage.prompt_tokens is None or usage.completion_tokens is None
        self.records += 1

    def rows(self) -> list[tuple[Cell, ...]]:
        """Return the sums in order, one row for each month, team and model, as in `SUM_COLUMNS`."""
        order = (UsageState.SETTLED, UsageState.PARTIAL, UsageState.ABANDONED, UsageState.ADMITTED)
        return [
            (*key, sum(total.states.values()), *(total.states[s] for s in order), *total.tokens, total.unknown)
            for key, total in sorted(self._sums.items())
        ]
