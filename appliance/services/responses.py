"""What a tenant may ask of `/v1/responses`, and what an answer there has cost.

Nothing is stored on a node, so whatever would refer to a stored response is refused, not ignored.
Only functions can be tools: any other kind would have the engine, not the caller, act.

vLLM 0.32 with Mistral's tokenizer takes no parts on this path (`'input_text' is not a valid
ChunkTypes`) and ignores `text.format`. So parts of text are joined here, and images and formats
are refused with the path that takes them.

Pure: bytes in, bytes out. The rules are those of `request_body`.
"""

from __future__ import annotations

import json
from typing import Any

from appliance.domain.usage import TokenUsage, UsageSource
from appliance.services.event_metering import EventTally, count
from appliance.services.request_body import (
    REFUSED_FIELDS,
    ChatLimits,
    JudgedRequest,
    boolean,
    check_model,
    check_stop,
    integer,
    map_effort,
    one_of,
    parse_body,
    parts_of,
    refuse,
    refuse_fields,
    write_body,
)

_STORED = frozenset({"background", "conversation", "previous_response_id", "prompt", "store"})
_RAW = frozenset({"enable_response_messages", "previous_input_messages", "structured_outputs"})
_ITEMS = frozenset({"function_call", "function_call_output", "message", "reasoning"})
_PARTS = frozenset({"input_image", "input_text", "output_text", "refusal"})
_CHAT = "ask /v1/chat/completions, which takes it"
_TOOLS = frozenset({"function"})
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


USUAL_EVENT = b"event: response.output_text.delta\n"
"""How the event of a stream begins that brings text and no counts."""


def read_responses_request(body: bytes, *, served_model: str, cache_salt: str, limits: ChatLimits) -> JudgedRequest:
    """Judge a request for a response and write what the engine gets. Raises ChatRefused."""
    request = parse_body(body, limits)
    check_model(request, served_model)
    refuse_fields(request, REFUSED_FIELDS | _RAW)
    refuse_fields(request, _STORED, "nothing is stored here; send the whole conversation as input")
    _flatten_input(request)
    _check_format(request)
    for tool, where in parts_of(request.get("tools"), "tools"):
        one_of(tool.get("type"), _TOOLS, f"{where}.type")
    integer(request, "top_logprobs", default=0, low=0, high=limits.top_logprobs)
    check_stop(request, "stop", limits)
    effort = _map_effort(request)
    stream = boolean(request, "stream")
    request["store"] = False
    request["cache_salt"] = cache_salt
    return JudgedRequest(body=write_body(request), stream=stream, reasoning_effort=effort)


def look_at_response_event(payload: dict[str, Any], tally: EventTally) -> None:
    """Meter one event of the engine's stream: counts come with the last one only."""
    kind = payload.get("type")
    if kind in _LAST:
        _count_response(payload.get("response"), tally)
        tally.failed = tally.failed or kind == "response.failed"
        tally.done = True
    elif kind == "error" or payload.get("error") is not None:
        tally.failed = True
    elif isinstance(kind, str) and kind.endswith(".delta"):
        tally.began = True


def tally_of_response(body: bytes) -> EventTally:
    """Read the counts of an answer that is not a stream; what is not there stays unknown."""
    tally = EventTally()
    try:
        _count_response(json.loads(body), tally)
    except (ValueError, RecursionError):
        return tally
    tally.done = True
    return tally


def _count_response(response: object, tally: EventTally) -> None:
    if not isinstance(response, dict):
        return
    status, why = response.get("status"), response.get("incomplete_details")
    reason = why.get("reason") if isinstance(why, dict) else status
    tally.finish_reason = reason if isinstance(reason, str) else None
    usage = response.get("usage")
    read = TokenUsage(
        prompt_tokens=count(usage, "input_tokens"),
        completion_tokens=count(usage, "output_tokens"),
        cached_tokens=count(usage, "input_tokens_details", "cached_tokens"),
        reasoning_tokens=count(usage, "output_tokens_details", "reasoning_tokens"),
    )
    if read.prompt_tokens is not None or read.completion_tokens is not None:
        tally.counts, tally.source = read, UsageSource.FINAL


def _flatten_input(request: dict[str, Any]) -> None:
    """Judge each item, and join the parts of its text as the engine takes it."""
    given = request.get("input")
    if given is None or given == []:
        refuse("input", "it must be text or a list with at least one item")
    for item, where in parts_of(given, "input"):
        kind = item.get("type")
        if kind is not None or "role" not in item:
            one_of(kind, _ITEMS, f"{where}.type")
        if kind == "reasoning":
            continue
        for name in ("content", "output"):
            if isinstance(item.get(name), list):
                item[name] = "".join(_text_of(part, at) for part, at in parts_of(item[name], f"{where}.{name}"))
                item.pop("id", None)  # an item with an id would have to be all that the engine once said


def _text_of(part: dict[str, Any], where: str) -> str:
    kind = one_of(part.get("type"), _PARTS, f"{where}.type")
    if kind == "input_image":
        refuse(where, f"the engine takes no images on this path; {_CHAT}")
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        refuse(where, "its text must be text")
    return text


def _check_format(request: dict[str, Any]) -> None:
    text = request.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    if form is not None and (not isinstance(form, dict) or form.get("type") != "text"):
        refuse("text.format", f"the engine does not keep to a format on this path; {_CHAT} as response_format")


def _map_effort(request: dict[str, Any]) -> str | None:
    reasoning = request.get("reasoning")
    if reasoning is None:
        return None
    if not isinstance(reasoning, dict):
        refuse("reasoning", "it must be an object")
    if reasoning.get("effort") is None:
        return None
    reasoning["effort"] = mapped = map_effort(reasoning["effort"], "reasoning.effort")
    return mapped
