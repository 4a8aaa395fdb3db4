"""What a preflight check is, and the three ways to conclude.

A check is a pure function of facts and release. It never fails for want of a release: where none is
named it tells what it sees. `blocking` means that going on cannot end well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding, Outcome
from bundles.release import Release

Evaluate = Callable[[NodeFacts, Release | None], Finding]


class Group(StrEnum):
    """Under which heading a finding is shown."""

    SYSTEM = "System"
    RESOURCES = "Resources"
    GPUS = "GPUs"
    SECURITY = "Security"
    NETWORK = "Network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question to a node. `id` is stable: it stands in journals, waivers and site procedures.

    `why` says what goes wrong otherwise: the first sentence of the check's own module. Where
    `waivable` is false no reason lets a failure pass: trust and room stand.
    """

    id: str
    title: str
    group: Group
    evaluate: Evaluate
    why: str
    waivable: bool = True


def passed(check: str, *, observed: str, required: str) -> Finding:
    """Conclude that all is as it must be."""
    return Finding(
        check=check, outcome=Outcome.PASS, blocking=False, observed=observed, required=required, remedy=""
    )  # fmt: skip


def warned(check: str, *, observed: str, required: str, remedy: str) -> Finding:
    """Conclude that a person should look, but that going on can end well."""
    return Finding(
        check=check, outcome=Outcome.WARN, blocking=False, observed=observed, required=required, remedy=remedy
    )  # fmt: skip


def failed(check: str, *, observed: str, required: str, remedy: str) -> Finding:
    """Conclude that going on cannot end well."""
    return Finding(
        check=check, outcome=Outcome.FAIL, blocking=True, observed=observed, required=required, remedy=remedy
    )  # fmt: skip
