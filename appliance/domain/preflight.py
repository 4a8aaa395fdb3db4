"""Preflight: questions to a node, each answered by a finding that a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What a check concluded."""

    PASS = "pass"  # noqa: S105  a verdict, not a password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one preflight check concluded about this node."""

    check: str
    outcome: Outcome
    blocking: bool
    observed: str
    required: str
    remedy: str
    title: str = ""
    group: str = ""
