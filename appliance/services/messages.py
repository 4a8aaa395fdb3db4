"""What a tenant may ask of `/v1/messages`, Anthropic's way to chat, and what an answer there has cost.

The model knows two levels of thinking, so a thinking budget is not kept: `max_tokens` alone bounds
the answer. Tools that Anthropic's own servers would run are refused.

Pure: bytes in, bytes out. The rules are those of `request_body`.
"""

from __future__ import annotations

import json
from typing import Any

from appliance.domain.usage import TokenUsage, UsageSource
from appliance.services.event_metering import EventTally, count
from appliance.services.metering import Tally
from appliance.services.request_body import (
    REFUSED_FIELDS,
    ChatLimits,
    JudgedRequest,
    boolean,
    check_model,
    check_stop,
    one_of,
    parse_body,
    parts_of,
    refuse,
    refuse_fields,
    write_body,
)

_ELSEWHERE = frozenset({"container", "mcp_servers"})
_BLOCKS = frozenset({"image", "redacted_thinking", "text", "thinking", "tool_result", "tool_use"})
_EFFORTS = {"low": "none", "medium": "high", "high": "high", "xhigh": "high", "max": "high"}
_THINKING = frozenset({"adaptive", "disabled", "enabled"})
_DEEPEST = 3  # a tool's result in a message, and its own blocks


USUAL_EVENT = b"event: content_block_delta\n"
"""How the event of a stream begins that brings text and no counts."""


def read_messages_request(body: bytes, *, served_model: str, cache_salt: str, limits: ChatLimits) -> JudgedRequest:
    """Judge a request for a message and write what the engine gets. Raises ChatRefused."""
    request, effort = _read(body, served_model, limits)
    check_stop(request, "stop_sequences", limits)
    stream = boolean(request, "stream")
    request["cache_salt"] = cache_salt
    return JudgedRequest(body=write_body(request), stream=stream, reasoning_effort=effort)


def read_count_request(body: bytes, *, served_model: str, cache_salt: str, limits: ChatLimits) -> JudgedRequest:
    """Judge a request to count a prompt's tokens; no cache is asked, so it needs no salt. Raises ChatRefused."""
    del cache_salt
    request, effort = _read(body, served_model, limits)
    return JudgedRequest(body=write_body(request), stream=False, reasoning_effort=effort)


def look_at_message_event(payload: dict[str, Any], tally: EventTally) -> None:
    """Meter one event of the engine's stream: the prompt's count comes first, the answer's last."""
    kind = payload.get("type")
    if kind == "content_block_delta":
        tally.began = True
    elif kind == "message_start":
        message = payload.get("message")
        usage = _usage(message.get("usage") if isinstance(message, dict) else None)
        if usage.prompt_tokens is not None:
            tally.counts = TokenUsage(prompt_tokens=usage.prompt_tokens, completion_tokens=None)
            tally.source = UsageSource.CONTINUOUS
    elif kind == "message_delta":
        _finish(payload.get("delta"), payload.get("usage"), tally)
    elif kind == "message_stop":
        tally.done = True
    elif kind == "error":
        tally.failed = True


def tally_of_message(body: bytes) -> Tally:
    """Read the counts of an answer that is not a stream; what is not there stays unknown."""
    tally = EventTally()
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return tally
    if isinstance(message, dict):
        _finish(message, message.get("usage"), tally)
        tally.done = True
    return tally


def _finish(ended: object, usage: object, tally: EventTally) -> None:
    reason = ended.get("stop_reason") if isinstance(ended, dict) else None
    tally.finish_reason = reason if isinstance(reason, str) else None
    read = _usage(usage)
    if read.prompt_tokens is not None or read.completion_tokens is not None:
        tally.counts, tally.source = read, UsageSource.FINAL


def _usage(usage: object) -> TokenUsage:
    """Read Anthropic's usage object, whose input tokens are those that no cache gave or took."""
    fresh, cached = count(usage, "input_tokens"), count(usage, "cache_read_input_tokens")
    parts = (fresh, cached, count(usage, "cache_creation_input_tokens"))
    return TokenUsage(
        prompt_tokens=None if fresh is None else sum(part or 0 for part in parts),
        completion_tokens=count(usage, "output_tokens"),
        cached_tokens=cached,
    )


def _read(body: bytes, served_model: str, limits: ChatLimits) -> tuple[dict[str, Any], str | None]:
    request = parse_body(body, limits)
    check_model(request, served_model)
    refuse_fields(request, REFUSED_FIELDS)
    refuse_fields(request, _ELSEWHERE, "it means a server elsewhere, and nothing is reached from here")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        refuse("messages", "it must be a list with at least one message")
    for message, where in parts_of(messages, "messages"):
        _check_blocks(message.get("content"), f"{where}.content")
    _check_blocks(request.get("system"), "system")
    for tool, where in parts_of(request.get("tools"), "tools"):
        if tool.get("type") is not None:
            one_of(tool["type"], frozenset({"custom"}), f"{where}.type")
    return request, _map_effort(request)


def _check_blocks(content: object, where: str, depth: int = 1) -> None:
    for block, at in parts_of(content, where):
        kind = one_of(block.get("type"), _BLOCKS, f"{at}.type")
        if kind == "image":
            _check_source(block.get("source"), f"{at}.source")
        elif block.get("source") is not None:
            refuse(at, "an image needs the type image")
        if kind == "tool_result":
            if depth == _DEEPEST:
                refuse(at, "it nests too deep")
            _check_blocks(block.get("content"), f"{at}.content", depth + 1)


def _check_source(source: object, where: str) -> None:
    if not isinstance(source, dict) or source.get("type") != "base64":
        refuse(where, "an image must be given as base64; nothing is fetched here")
    media_type = source.get("media_type")
    if not isinstance(media_type, str) or not media_type.startswith("image/"):
        refuse(f"{where}.media_type", "it must begin with image/")


def _map_effort(request: dict[str, Any]) -> str | None:
    """Map thinking and effort onto the model's two levels, as vLLM reads them."""
    thinking = _optional_object(request, "thinking")
    output = _optional_object(request, "output_config")
    if output.get("format") is not None:
        refuse("output_config.format", "the engine does not keep to a format on this path; ask /v1/chat/completions")
    effort = output.pop("effort", None)
    mode = one_of(thinking.get("type"), _THINKING, "thinking.type") if thinking else None
    if effort is not None:
        one_of(effort, frozenset(_EFFORTS), "output_config.effort")
    if mode is None and effort is None:
        return None
    mapped = "none" if mode == "disabled" else "high" if effort is None else _EFFORTS[effort]
    if mapped == "high":
        request["output_config"] = output | {"effort": "high"}
        request["thinking"] = {"type": "adaptive"}
    else:
        request["output_config"] = output
        request["thinking"] = {"type": "disabled"}
    return mapped


def _optional_object(request: dict[str, Any], name: str) -> dict[str, Any]:
    value = request.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse(name, "it must be an object")
    return value
