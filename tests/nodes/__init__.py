"""Nodes as JSON: facts to replay. README.md says which were recorded and which were composed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from appliance.domain.node import NodeFacts
from appliance.domain.wire import from_plain

FOLDER = Path(__file__).parent


def node(name: str) -> NodeFacts:
    """Read one node; a wrong one is another node with the changes that it names."""
    return from_plain(plain_node(name), NodeFacts)


def plain_node(name: str) -> dict[str, Any]:
    written = json.loads((FOLDER / f"{name}.json").read_text())
    if "base" not in written:
        facts: dict[str, Any] = written["facts"]
        return facts
    facts = plain_node(written["base"])
    for path, value in written["changes"].items():
        _put(facts, path.split("."), value)
    return facts


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def _put(target: Any, path: list[str], value: Any) -> None:  # noqa: ANN401  any JSON value
    head: Any = int(path[0]) if path[0].isdigit() else path[0]
    if len(path) == 1:
        target[head] = value
    else:
        _put(target[head], path[1:], value)
