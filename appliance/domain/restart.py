"""Why a node must restart before it can serve. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartReason:
    """One reason of this boot: a stable name, what to say of it, and whether a person is needed at the console."""

    name: str
    text: str
    at_console: bool
