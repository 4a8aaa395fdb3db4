"""`/v1/models`: one served model, told with the fields that each kind of client reads.

OpenAI's, Mistral's and vLLM's fields stand beside one another. Anthropic's clients, which say so
with a header, get theirs: both they and Mistral's read `type`, in different senses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

ANTHROPIC_HEADER = "anthropic-version"


def model_object(name: str, seen: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the served model; `seen` is what the engine says of it."""
    length = seen.get("max_model_len")
    return {
        "id": name,
        "object": "model",
        "created": seen.get("created", 0),
        "owned_by": "leeward",
        "root": name,
        "parent": None,
        "max_model_len": length,
        "max_context_length": length,
        "name": name,
        "description": None,
        "type": "base",
        "aliases": [],
        "deprecation": None,
        "capabilities": {
            "completion_chat": True,
            "completion_fim": False,
            "function_calling": True,
            "fine_tuning": False,
            "reasoning": True,
            "vision": True,
        },
    }


def model_list(model: dict[str, Any]) -> dict[str, Any]:
    """Return the list of one model."""
    return {"object": "list", "data": [model]}


def anthropic_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the same model as Anthropic's clients read it."""
    created = datetime.fromtimestamp(model["created"], UTC).isoformat().replace("+00:00", "Z")
    return {"type": "model", "id": model["id"], "display_name": model["id"], "created_at": created}


def anthropic_list(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the list of one model as Anthropic's clients read it."""
    return {"data": [anthropic_model(model)], "has_more": False, "first_id": model["id"], "last_id": model["id"]}
