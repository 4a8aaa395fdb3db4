"""What every dialect's request has in common: how it is parsed, judged and written anew.

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
from collections.abc import Iterator
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

EFFORTS = {"none": "none", "minimal": "none", "low": "none", "medium": "high", "high": "high", "xhigh": "high"}
"""OpenAI's levels of effort, and which of the model's two each means."""

_IMAGE_START = "data:image/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLimits:
    """How much one request may ask for."""

    body_bytes: int = 64 * 1024 * 1024
    depth: int = 64
    choices: int = 8
    stop_sequences: int = 4
    top_logprobs: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRequest:
    """An admitted request: what the engine will read, and what the gateway must know of it.

    `reasoning_effort` is what the engine will be told; `None` if the caller said nothing. The other
    three are for streams whose counts come with every chunk, asked for or not.
    """

    body: bytes = field(repr=False)
    stream: bool
    reasoning_effort: str | None = None
    choices: int = 1
    wants_usage: bool = True
    wants_continuous_usage: bool = False


def parse_body(body: bytes, limits: ChatLimits) -> dict[str, Any]:
    """Parse a body that must be a JSON object of bounded depth."""
    try:
        request = _decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):  # said without the parser's words, which can quote the body
        request = None
    if not isinstance(request, dict):
        refuse(None, "the body is not a JSON object in UTF-8")
    if body.count(b"{") + body.count(b"[") > limits.depth and _too_deep(request, limits.depth):
        refuse(None, f"the body nests deeper than {limits.depth} levels")
    return request


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_decode = json.JSONDecoder(parse_constant=_no_constant).decode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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


def check_model(request: dict[str, Any], served_model: str) -> None:
    """Refuse any model but the served one."""
    model = request.get("model")
    if not isinstance(model, str):
        refuse("model", "it must be the name of a model")
    if model != served_model:
        raise ChatRefused(
            detail="This node does not serve the model that was asked for.",
            remedy=f"Ask for {served_model}; GET /v1/models lists what is served.",
            http_status=404,
            param="model",
        )


def refuse_fields(
    request: dict[str, Any], names: frozenset[str], why: str = "this gateway does not forward it"
) -> None:
    """Refuse these fields where they say something, and remove them where they do not."""
    for name in names.intersection(request):
        if request[name] is not None and request[name] is not False:
            refuse(name, why)
        del request[name]


def check_image(url: object, where: str) -> None:
    """Refuse an image that the engine would have to fetch."""
    if not isinstance(url, str) or not url.startswith(_IMAGE_START):
        refuse(where, f"an image must be given as a URL that begins with {_IMAGE_START}; nothing is fetched here")


def parts_of(value: object, where: str, *, of: str = "it") -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each part of a list of objects with where it stands; text or nothing has no parts."""
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list):
        refuse(where, f"{of} must be text or a list")
    for position, part in enumerate(value):
        at = f"{where}[{position}]"
        if not isinstance(part, dict):
            refuse(at, "it must be an object")
        yield part, at


def one_of(value: object, allowed: frozenset[str], where: str) -> str:
    """Return a value that must be one of some words."""
    if not isinstance(value, str) or value not in allowed:
        refuse(where, f"it must be one of: {', '.join(sorted(allowed))}")
    return value


def boolean(request: dict[str, Any], name: str) -> bool:
    """Read a switch; absent and null are off."""
    value = request.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        refuse(name, "it must be true or false")
    return value


def integer(request: dict[str, Any], name: str, *, default: int, low: int, high: int) -> int:
    """Read a whole number between limits."""
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        refuse(name, f"it must be a whole number from {low} to {high}")
    return value


def check_stop(request: dict[str, Any], name: str, limits: ChatLimits) -> None:
    """Refuse more stop sequences than are allowed."""
    stop = request.get(name)
    if isinstance(stop, list) and len(stop) > limits.stop_sequences:
        refuse(name, f"it has {len(stop)} sequences; at most {limits.stop_sequences} are allowed")


def map_effort(effort: object, where: str) -> str:
    """Map OpenAI's levels onto the two that the model knows: none and high."""
    if not isinstance(effort, str) or effort not in EFFORTS:
        refuse(where, f"it must be one of: {', '.join(EFFORTS)}")
    return EFFORTS[effort]


def ask_for_counts(request: dict[str, Any], *, stream: bool) -> tuple[bool, bool]:
    """Ask the engine for running counts; return what the caller had asked for: (usage, continuous)."""
    asked = request.pop("stream_options", None)
    if asked is not None and not isinstance(asked, dict):
        refuse("stream_options", "it must be an object")
    if not stream:
        return True, False
    request["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    wants_usage = boolean(asked or {}, "include_usage")
    return wants_usage, wants_usage and boolean(asked or {}, "continuous_usage_stats")


def write_body(request: dict[str, Any]) -> bytes:
    """Write what the engine reads."""
    try:
        return _encode(request).encode()
    except UnicodeEncodeError:
        refuse(None, "the body holds half of a surrogate pair, which is not text")


def refuse(param: str | None, why: str) -> NoReturn:
    """Raise ChatRefused for one parameter."""
    raise ChatRefused(
        detail=f"{param}: {why}." if param else f"{why[0].upper()}{why[1:]}.",
        remedy="Change the request; the gateway's handbook lists what is forwarded.",
        param=param,
    )
