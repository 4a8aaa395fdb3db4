"""What a tenant may ask of the engine: a chat request is read, judged and rewritten here.

The rules are those of `request_body`. What is said in Mistral's way is said in the engine's.

Pure: bytes in, bytes out. No text of a request ends up in an error.
"""

from __future__ import annotations

from typing import Any

from appliance.services.request_body import (
    REFUSED_FIELDS,
    ChatLimits,
    JudgedRequest,
    ask_for_counts,
    boolean,
    check_image,
    check_model,
    check_stop,
    integer,
    map_effort,
    parse_body,
    refuse,
    refuse_fields,
    write_body,
)

PART_TYPES = frozenset({"text", "image_url", "thinking", "refusal"})
"""Kinds of message content that the model takes."""

_MEDIA_KEYS = frozenset(
    {
        "audio_embeds", "audio_url", "file", "image_embeds", "image_pil", "input_audio", "input_image",
        "prompt_embeds", "video_url",
    }
)  # fmt: skip
_ANOTHER_MODEL = frozenset({"guardrails"})  # Mistral's own servers ask one
_STRUCTURES = frozenset({"json", "json_object"})
_HINTS = ("prediction", "prompt_cache_key")  # they change how fast an answer comes, never what it says

SAFE_PROMPT = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity."
)
"""What Mistral's servers put before the conversation for `safe_prompt` (docs.mistral.ai, Guardrailing)."""


def read_chat_request(body: bytes, *, served_model: str, cache_salt: str, limits: ChatLimits) -> JudgedRequest:
    """Judge a chat request and write what the engine gets.

    `cache_salt` keeps one team's prompts out of another's prefix cache (vLLM: 1 to 1,024
    characters). Raises ChatRefused with the HTTP status and the parameter at fault.
    """
    request = parse_body(body, limits)
    check_model(request, served_model)
    refuse_fields(request, REFUSED_FIELDS)
    refuse_fields(request, _ANOTHER_MODEL, "it asks for a second model, which this node does not have")
    _check_messages(request)
    _check_structure(request)
    stream = boolean(request, "stream")
    choices = integer(request, "n", default=1, low=1, high=limits.choices)
    integer(request, "top_logprobs", default=0, low=0, high=limits.top_logprobs)
    check_stop(request, "stop", limits)
    wants_usage, wants_continuous = ask_for_counts(request, stream=stream)
    _speak_vllm(request)
    effort = _map_effort(request)
    request["cache_salt"] = cache_salt
    return JudgedRequest(
        body=write_body(request),
        stream=stream,
        choices=choices,
        wants_usage=wants_usage,
        wants_continuous_usage=wants_continuous,
        reasoning_effort=effort,
    )


def _check_messages(request: dict[str, Any]) -> None:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        refuse("messages", "it must be a list with at least one message")
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            refuse(where, "it must be an object")
        content = message.get("content")
        if isinstance(content, list):
            for part_position, part in enumerate(content):
                _check_part(part, f"{where}.content[{part_position}]")
        elif content is not None and not isinstance(content, str):
            refuse(f"{where}.content", "it must be text or a list of parts")


def _check_part(part: object, where: str) -> None:
    if isinstance(part, str):
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in PART_TYPES:
        refuse(where, f"its type must be one of: {', '.join(sorted(PART_TYPES))}")
    if not _MEDIA_KEYS.isdisjoint(part):
        refuse(where, "it carries media that this model does not take")
    if kind != "image_url":
        if "image_url" in part:
            refuse(where, "an image needs the type image_url")
        return
    image = part.get("image_url")
    check_image(image.get("url") if isinstance(image, dict) else image, where)


def _check_structure(request: dict[str, Any]) -> None:
    """Refuse the structures that vLLM's Mistral parser lets pass without keeping to them."""
    asked = request.get("structured_outputs")
    if asked is not None and (not isinstance(asked, dict) or not asked.keys() <= _STRUCTURES):
        refuse("structured_outputs", "this model keeps to json and json_object only; use response_format")


def _map_effort(request: dict[str, Any]) -> str | None:
    effort = request.pop("reasoning_effort", None)
    if effort is None:
        return None
    request["reasoning_effort"] = mapped = map_effort(effort, "reasoning_effort")
    return mapped


def _speak_vllm(request: dict[str, Any]) -> None:
    """Translate what Mistral's own SDK says differently."""
    seed = request.pop("random_seed", None)
    if seed is not None:
        request.setdefault("seed", seed)
    if request.get("tool_choice") == "any":
        request["tool_choice"] = "required"
    mode = request.pop("prompt_mode", None)
    if mode is not None:
        if mode != "reasoning":
            refuse("prompt_mode", "it must be reasoning")
        request.setdefault("reasoning_effort", "high")
    if boolean(request, "safe_prompt"):
        _put_first(request["messages"], SAFE_PROMPT)
    for name in (*_HINTS, "safe_prompt"):
        request.pop(name, None)


def _put_first(messages: list[Any], words: str) -> None:
    """Say something before all else, in the system message if there is one."""
    first = messages[0]
    content = first.get("content") if first.get("role") == "system" else None
    if isinstance(content, str):
        messages[0] = first | {"content": f"{words}\n\n{content}"}
    elif isinstance(content, list):
        messages[0] = first | {"content": [{"type": "text", "text": words}, *content]}
    else:
        messages.insert(0, {"role": "system", "content": words})
