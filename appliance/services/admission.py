"""What a tenant may ask of the engine: a chat request is read, judged and rewritten here.

The rules (facts of vLLM 0.33, each with an advisory or a cost behind it):
- A field that reaches into the engine (chat templates, processor arguments, cache transfer,
  embeddings, priorities) or that prints what was not asked (`ignore_eos`) is refused, not dropped:
  a caller must never believe that it had an effect. `null` and `false` mean nothing and are removed.
- Images come as `data:` URLs; the engine would fetch any other address itself.
- The body is parsed and written anew, so that what was judged is what the engine reads: no second
  `model` key, no NaN, no lone surrogates, no nesting deeper than the limit.

Pure: bytes in, bytes out. No text of a request ends up in an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

from appliance.domain.errors import ChatRefused

REFUSED_FIELDS = frozenset(
    {
        "cache_salt", "chat_template", "chat_template_kwargs", "documents",
        "ec_transfer_params", "ignore_eos", "kv_transfer_params", "logprob_token_ids", "media_io_kwargs",
        "mm_payload", "mm_processor_kwargs", "priority", "prompt_embeds", "prompt_logprobs", "request_id",
        "return_prompt_text", "return_token_ids", "session_id", "use_beam_search", "vllm_xargs",
    }
)  # fmt: skip
"""Request fields of vLLM that no tenant may set."""

PART_TYPES = frozenset({"text", "image_url", "thinking", "refusal"})
"""Kinds of message content that the model takes."""

_MEDIA_KEYS = frozenset(
    {
        "audio_embeds", "audio_url", "file", "image_embeds", "image_pil", "input_audio", "input_image",
        "prompt_embeds", "video_url",
    }
)  # fmt: skip
_IMAGE_START = "data:image/"
_EFFORTS = {"none": "none", "minimal": "none", "low": "none", "medium": "high", "high": "high", "xhigh": "high"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLimits:
    """How much one request may ask for."""

    body_bytes: int = 64 * 1024 * 1024
    depth: int = 64
    choices: int = 8
    stop_sequences: int = 4
    top_logprobs: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """An admitted request: what the engine will read, and what the gateway must know of it.

    `reasoning_effort` is what the engine will be told; `None` if the caller said nothing.
    """

    body: bytes = field(repr=False)
    model: str
    stream: bool
    choices: int
    wants_usage: bool
    wants_continuous_usage: bool
    reasoning_effort: str | None


def read_chat_request(body: bytes, *, served_model: str, cache_salt: str, limits: ChatLimits) -> ChatRequest:
    """Judge a chat request and write what the engine gets.

    `cache_salt` keeps one team's prompts out of another's prefix cache (vLLM: 1 to 1,024
    characters). Raises ChatRefused with the HTTP status and the parameter at fault.
    """
    request = _parse(body, limits)
    _check_model(request, served_model)
    _refuse_fields(request)
    _check_messages(request)
    stream = _boolean(request, "stream")
    choices = _integer(request, "n", default=1, low=1, high=limits.choices)
    _integer(request, "top_logprobs", default=0, low=0, high=limits.top_logprobs)
    stop = request.get("stop")
    if isinstance(stop, list) and len(stop) > limits.stop_sequences:
        _refuse("stop", f"it has {len(stop)} sequences; at most {limits.stop_sequences} are allowed")
    wants_usage, wants_continuous = _stream_options(request, stream=stream)
    effort = _map_effort(request)
    _speak_vllm(request)
    request["cache_salt"] = cache_salt
    return ChatRequest(
        body=_write(request),
        model=served_model,
        stream=stream,
        choices=choices,
        wants_usage=wants_usage,
        wants_continuous_usage=wants_continuous,
        reasoning_effort=effort,
    )


def _parse(body: bytes, limits: ChatLimits) -> dict[str, Any]:
    try:
        request = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # said without the parser's words, which can quote the body
        request = None
    if not isinstance(request, dict):
        _refuse(None, "the body is not a JSON object in UTF-8")
    if _too_deep(request, limits.depth):
        _refuse(None, f"the body nests deeper than {limits.depth} levels")
    return request


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _too_deep(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit):
        below: list[object] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
            below.extend(child for child in children if isinstance(child, (dict, list)))
        if not below:
            return False
        level = below
    return True


def _check_model(request: dict[str, Any], served_model: str) -> None:
    model = request.get("model")
    if not isinstance(model, str):
        _refuse("model", "it must be the name of a model")
    if model != served_model:
        raise ChatRefused(
            detail="This node does not serve the model that was asked for.",
            remedy=f"Ask for {served_model}; GET /v1/models lists what is served.",
            http_status=404,
            param="model",
        )


def _refuse_fields(request: dict[str, Any]) -> None:
    for name in REFUSED_FIELDS.intersection(request):
        if request[name] is not None and request[name] is not False:
            _refuse(name, "this gateway does not forward it")
        del request[name]


def _check_messages(request: dict[str, Any]) -> None:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        _refuse("messages", "it must be a list with at least one message")
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            _refuse(where, "it must be an object")
        content = message.get("content")
        if isinstance(content, list):
            for part_position, part in enumerate(content):
                _check_part(part, f"{where}.content[{part_position}]")
        elif content is not None and not isinstance(content, str):
            _refuse(f"{where}.content", "it must be text or a list of parts")


def _check_part(part: object, where: str) -> None:
    if isinstance(part, str):
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in PART_TYPES:
        _refuse(where, f"its type must be one of: {', '.join(sorted(PART_TYPES))}")
    if not _MEDIA_KEYS.isdisjoint(part):
        _refuse(where, "it carries media that this model does not take")
    if kind != "image_url":
        if "image_url" in part:
            _refuse(where, "an image needs the type image_url")
        return
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url.startswith(_IMAGE_START):
        _refuse(where, f"an image must be given as a URL that begins with {_IMAGE_START}; nothing is fetched here")


def _stream_options(request: dict[str, Any], *, stream: bool) -> tuple[bool, bool]:
    """Ask the engine for running counts; return what the caller had asked for: (usage, continuous)."""
    asked = request.pop("stream_options", None)
    if asked is not None and not isinstance(asked, dict):
        _refuse("stream_options", "it must be an object")
    if not stream:
        return True, False
    request["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    wants_usage = _boolean(asked or {}, "include_usage")
    return wants_usage, wants_usage and _boolean(asked or {}, "continuous_usage_stats")


def _map_effort(request: dict[str, Any]) -> str | None:
    """Map OpenAI's levels onto the two that the model knows: none and high."""
    effort = request.get("reasoning_effort")
    if effort is None:
        request.pop("reasoning_effort", None)
        return None
    if not isinstance(effort, str) or effort not in _EFFORTS:
        _refuse("reasoning_effort", f"it must be one of: {', '.join(_EFFORTS)}")
    request["reasoning_effort"] = _EFFORTS[effort]
    return _EFFORTS[effort]


def _speak_vllm(request: dict[str, Any]) -> None:
    """Translate what Mistral's own SDK says differently."""
    seed = request.pop("random_seed", None)
    if seed is not None:
        request.setdefault("seed", seed)
    if request.get("tool_choice") == "any":
        request["tool_choice"] = "required"


def _boolean(request: dict[str, Any], name: str) -> bool:
    value = request.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        _refuse(name, "it must be true or false")
    return value


def _integer(request: dict[str, Any], name: str, *, default: int, low: int, high: int) -> int:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        _refuse(name, f"it must be a whole number from {low} to {high}")
    return value


def _write(request: dict[str, Any]) -> bytes:
    try:
        return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        _refuse(None, "the body holds half of a surrogate pair, which is not text")


def _refuse(param: str | None, why: str) -> NoReturn:
    raise ChatRefused(
        detail=f"{param}: {why}." if param else f"{why[0].upper()}{why[1:]}.",
        remedy="Change the request; the gateway's handbook lists what is forwarded.",
        param=param,
    )
