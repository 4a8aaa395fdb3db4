"""HTTP problems, and the errors of failed operations, as the exceptions that the daemon raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from appliance.domain.errors import InternalError, LeewardError
from appliance.domain.projection import ErrorView


def error_from_problem(problem: Mapping[str, Any]) -> LeewardError:
    """Return the error that a problem (RFC 9457) speaks of.

    A code that this client does not know, from a newer daemon, becomes an InternalError that names it.
    """
    return _error(
        code=str(problem.get("code", "unknown")),
        title=str(problem.get("title", "")),
        detail=str(problem.get("detail", "")),
        remedy=str(problem.get("remedy", "")),
    )


def error_from_view(view: ErrorView) -> LeewardError:
    """Return the error that ended an operation."""
    return _error(code=view.code, title=view.title, detail=view.detail, remedy=view.remedy)


def _error(*, code: str, title: str, detail: str, remedy: str) -> LeewardError:
    known = _classes().get(code)
    if known is None:
        return InternalError(detail=f"{title} ({code}): {detail}", remedy=remedy)
    return known(detail=detail, remedy=remedy)


@cache
def _classes() -> dict[str, type[LeewardError]]:
    return {error.code: error for error in _tree(LeewardError)}


def _tree(parent: type[LeewardError]) -> Iterator[type[LeewardError]]:
    for child in parent.__subclasses__():
        if "code" in vars(child):
            yield child
        yield from _tree(child)
