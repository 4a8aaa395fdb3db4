"""How findings of preflight are judged: the options that several verbs share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

Verb = TypeVar("Verb", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--strict", "is_strict", is_flag=True, help="Let warnings block as failures do."),
    click.option("--waive", "waived", metavar="CHECK", multiple=True, help="Let this finding pass; may be repeated."),
    click.option(
        "--reason", "reasons", metavar="TEXT", multiple=True, help="Why; one for each --waive, or a single one."
    ),
)


def judging(verb: Verb) -> Verb:
    """Give a verb the options `--strict`, `--waive` and `--reason`."""
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


def waivers(waived: Sequence[str], reasons: Sequence[str]) -> dict[str, str]:
    """Return reason by check; raises click.UsageError where one is missing."""
    if len(reasons) == 1:
        reasons = [reasons[0]] * len(waived)
    if len(reasons) != len(waived) or not all(reason.strip() for reason in reasons):
        raise click.UsageError("Say why: one --reason TEXT for each --waive CHECK, or one for all of them.")
    if len(set(waived)) != len(waived):
        raise click.UsageError("A check is waived once.")
    return dict(zip(waived, reasons, strict=True))


def judgement_parameters(*, is_strict: bool, waived: Sequence[str], reasons: Sequence[str]) -> dict[str, str]:
    """Return the parameters of an operation; what is not asked for is left out."""
    given = {"strict": "true"} if is_strict else {}
    if waived or reasons:
        given["waivers"] = json.dumps(waivers(waived, reasons), ensure_ascii=False)
    return given
