"""Usage, summed: how many requests and tokens, by day, month, team, key or model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UsageDimension(StrEnum):
    """What usage can be summed by. Days and months are those of admission, in UTC."""

    DAY = "day"
    MONTH = "month"
    TEAM = "team"
    KEY = "key"
    MODEL = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """Requests and tokens of one group; `group` has a value for each dimension that was asked for.

    Token counts leave out what is unknown; `requests_with_unknown_tokens` says how many requests
    that is. Cached tokens are part of the prompt's, reasoning tokens part of the completion's.
    """

    group: tuple[str, ...]
    requests: int
    settled: int
    partial: int
    abandoned: int
    admitted: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    requests_with_unknown_tokens: int
