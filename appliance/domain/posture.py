"""Posture: how the node stands against the items of CIS and STIG that bear on it.

The items are data (`appliance/posture.toml`). Each names a probe, what the probe must find, and, where
the appliance cannot or must not meet it, why. Pure.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What became of an item on this node."""

    MET = "met"
    NOT_MET = "not met"
    EXCEPTION = "exception"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostureItem:
    """One demand. `references` are ids of CIS and STIG; `probe` and its `arguments` measure it.

    `exception` says why the item may be unmet on this appliance; empty where it must be met. `remedy`
    is what an administrator can do.
    """

    id: str
    title: str
    references: tuple[str, ...]
    probe: str
    arguments: tuple[str, ...] = ()
    exception: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a probe saw; `is_met` is `None` where it could not see."""

    is_met: bool | None
    observed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PostureFinding:
    """An item with its standing on this node; `measured` names probe and arguments."""

    id: str
    title: str
    references: tuple[str, ...]
    measured: str
    standing: Standing
    observed: str
    reason: str
    remedy: str


def judge(item: PostureItem, seen: Observation) -> PostureFinding:
    """Conclude on one item. An exception holds only while the item is unmet."""
    if seen.is_met:
        standing = Standing.MET
    elif item.exception:
        standing = Standing.EXCEPTION
    else:
        standing = Standing.UNKNOWN if seen.is_met is None else Standing.NOT_MET
    return PostureFinding(
        id=item.id,
        title=item.title,
        references=item.references,
        measured=measured(item),
        standing=standing,
        observed=seen.observed,
        reason=item.exception if standing is Standing.EXCEPTION else "",
        remedy=item.remedy if standing in {Standing.NOT_MET, Standing.UNKNOWN} else "",
    )


def measured(item: PostureItem) -> str:
    """Say how an item is measured: `sysctl kernel.kptr_restrict 2`."""
    return " ".join((item.probe, *item.arguments))


def counts(findings: Iterable[PostureFinding]) -> dict[Standing, int]:
    """Return how many items have each standing, every standing named."""
    found = Counter(finding.standing for finding in findings)
    return {standing: found[standing] for standing in Standing}


def items_from_toml(text: str) -> tuple[PostureItem, ...]:
    """Read the table; raises ValueError, KeyError or TypeError where it is not one, or an id stands twice."""
    items = tuple(
        PostureItem(
            id=table["id"],
            title=table["title"],
            references=tuple(table["references"]),
            probe=table["probe"][0],
            arguments=tuple(table["probe"][1:]),
            exception=table.get("exception", ""),
            remedy=table.get("remedy", ""),
        )
        for table in tomllib.loads(text)["item"]
    )
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise ValueError(f"ids stand twice: {', '.join(twice)}")
    return items


def as_markdown(items: Iterable[PostureItem]) -> str:
    """Return the table of docs/hardening.md."""
    lines = ["| item | demand | references | measured by | exception |", "|---|---|---|---|---|"]
    for item in items:
        cells = (item.id, item.title, ", ".join(item.references), f"`{measured(item)}`", item.exception or "none")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
