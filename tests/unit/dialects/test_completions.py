"""Bytes in, bytes out: what the engine will read of a completion request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.domain.errors import ChatRefused
from appliance.services.completions import read_completion_request
from appliance.services.request_body import ChatLimits, JudgedRequest

ASK: dict[str, Any] = {"model": "m", "prompt": "Once upon"}


def read(request: dict[str, Any]) -> JudgedRequest:
    return read_completion_request(
        json.dumps(request).encode(), served_model="m", cache_salt="salt", limits=ChatLimits()
    )


def test_a_plain_prompt_goes_on_with_a_cache_salt_and_nothing_else() -> None:
    assert json.loads(read(ASK).body) == ASK | {"cache_salt": "salt"}


def test_a_stream_is_asked_for_with_running_counts() -> None:
    request = read(ASK | {"stream": True})

    assert json.loads(request.body)["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert not request.wants_usage


@pytest.mark.parametrize(("prompt", "choices"), [("a", 1), ([1, 2, 3], 1), (["a", "b"], 2), ([[1], [2], [3]], 3)])
def test_prompts_are_counted_in_each_of_their_forms(prompt: object, choices: int) -> None:
    assert read(ASK | {"prompt": prompt}).choices == choices


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"], "stream": True}, "prompt"),
        ({"prompt": ["a", "b", "c"], "n": 3}, "prompt"),
        ({"suffix": "the end"}, "suffix"),
        ({"prompt_embeds": "AA=="}, "prompt_embeds"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"n": 9}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"model": "other"}, "model"),
    ],
)
def test_what_is_not_forwarded_is_refused_by_name(change: dict[str, Any], param: str) -> None:
    with pytest.raises(ChatRefused) as refused:
        read(ASK | change)

    assert refused.value.param == param
