"""What a tenant may ask of `/v1/completions`: text goes on where a prompt ends.

Pure: bytes in, bytes out. The rules are those of `request_body`.
"""

from __future__ import annotations

from typing import Any

from appliance.services.request_body import (
    REFUSED_FIELDS,
    ChatLimits,
    JudgedRequest,
    ask_for_counts,
    boolean,
    check_model,
    check_stop,
    integer,
    parse_body,
    refuse,
    refuse_fields,
    write_body,
)

_FILL_IN = frozenset({"suffix"})


def read_completion_request(body: bytes, *, served_model: str, cache_salt: str, limits: ChatLimits) -> JudgedRequest:
    """Judge a completion request and write what the engine gets. Raises ChatRefused."""
    request = parse_body(body, limits)
    check_model(request, served_model)
    refuse_fields(request, REFUSED_FIELDS)
    refuse_fields(request, _FILL_IN, "this model does not fill in the middle")
    stream = boolean(request, "stream")
    prompts = _prompts(request)
    if stream and prompts > 1:
        refuse("prompt", "several prompts cannot be streamed; send one, or ask for the whole answer")
    choices = prompts * integer(request, "n", default=1, low=1, high=limits.choices)
    if choices > limits.choices:
        refuse("prompt", f"prompts times n is {choices}; at most {limits.choices} are allowed")
    integer(request, "logprobs", default=0, low=0, high=limits.top_logprobs)
    check_stop(request, "stop", limits)
    wants_usage, wants_continuous = ask_for_counts(request, stream=stream)
    request["cache_salt"] = cache_salt
    return JudgedRequest(
        body=write_body(request),
        stream=stream,
        choices=choices,
        wants_usage=wants_usage,
        wants_continuous_usage=wants_continuous,
    )


def _prompts(request: dict[str, Any]) -> int:
    """Count the prompts: one text, one list of token ids, or a list of either."""
    prompt = request.get("prompt")
    if isinstance(prompt, str):
        return 1
    if not isinstance(prompt, list) or not prompt:
        refuse("prompt", "it must be text, token ids, or a list of either that is not empty")
    return 1 if isinstance(prompt[0], int) else len(prompt)
