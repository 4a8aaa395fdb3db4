"""Bytes in, bytes out: what the engine will read of a tenant's request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import ChatRefused
from appliance.services.admission import SAFE_PROMPT, read_chat_request
from appliance.services.request_body import REFUSED_FIELDS, ChatLimits, JudgedRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def read(request: object, limits: ChatLimits | None = None) -> JudgedRequest:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return read_chat_request(body, served_model="m", cache_salt="salt", limits=limits or ChatLimits())


def forwarded(request: object) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(read(request).body)
    return sent


def test_a_plain_request_goes_on_with_a_cache_salt_and_nothing_else() -> None:
    assert forwarded(ASK) == ASK | {"cache_salt": "salt"}


def test_a_stream_is_asked_for_with_running_counts_whatever_the_caller_wanted() -> None:
    bare, asked = (
        read(ASK | {"stream": True}),
        read(ASK | {"stream": True, "stream_options": {"include_usage": True, "other": 1}}),
    )

    for request in (bare, asked):
        assert json.loads(request.body)["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert (bare.wants_usage, asked.wants_usage) == (False, True)
    assert (bare.wants_continuous_usage, asked.wants_continuous_usage) == (False, False)


@pytest.mark.parametrize(
    ("asked", "told"),
    [("none", "none"), ("minimal", "none"), ("low", "none"), ("medium", "high"), ("high", "high"), ("xhigh", "high")],
)
def test_effort_is_one_of_the_models_two_levels(asked: str, told: str) -> None:
    request = read(ASK | {"reasoning_effort": asked})

    assert request.reasoning_effort == json.loads(request.body)["reasoning_effort"] == told


def test_what_mistrals_sdk_says_differently_is_translated() -> None:
    sent = forwarded(ASK | {"random_seed": 7, "tool_choice": "any"})

    assert (sent["seed"], sent["tool_choice"]) == (7, "required")
    assert "random_seed" not in sent


def test_a_safe_prompt_comes_before_the_callers_own_system_message() -> None:
    own = {"role": "system", "content": "Be brief."}
    parts = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}

    bare = forwarded(ASK | {"safe_prompt": True})
    joined = forwarded(ASK | {"safe_prompt": True, "messages": [own, *ASK["messages"]]})
    in_parts = forwarded(ASK | {"safe_prompt": True, "messages": [parts, *ASK["messages"]]})

    assert bare["messages"] == [{"role": "system", "content": SAFE_PROMPT}, *ASK["messages"]]
    assert joined["messages"][0]["content"] == f"{SAFE_PROMPT}\n\nBe brief."
    assert in_parts["messages"][0]["content"] == [{"type": "text", "text": SAFE_PROMPT}, *parts["content"]]
    assert "safe_prompt" not in bare
    assert forwarded(ASK | {"safe_prompt": False}) == ASK | {"cache_salt": "salt"}


def test_mistrals_reasoning_mode_means_high_effort_and_its_hints_are_left_out() -> None:
    hints = {"prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k", "guardrails": None}

    assert forwarded(ASK | {"prompt_mode": "reasoning"})["reasoning_effort"] == "high"
    assert forwarded(ASK | {"prompt_mode": "reasoning", "reasoning_effort": "low"})["reasoning_effort"] == "none"
    assert forwarded(ASK | hints | {"prompt_mode": None}) == ASK | {"cache_salt": "salt"}


def test_guardrails_are_refused_because_they_need_a_second_model() -> None:
    with pytest.raises(ChatRefused) as refused:
        read(ASK | {"guardrails": [{"block_on_error": True}]})

    assert refused.value.param == "guardrails"


@pytest.mark.parametrize("name", sorted(REFUSED_FIELDS))
def test_each_refused_field_is_named(name: str) -> None:
    with pytest.raises(ChatRefused) as refusal:
        read(ASK | {name: {"secret": "elephants"}})

    assert refusal.value.param == name
    assert refusal.value.http_status == 400
    assert "elephants" not in str(refusal.value)


def test_nesting_is_allowed_to_its_limit_and_no_deeper() -> None:
    def nested(levels: int) -> dict[str, Any]:
        value: object = "x"
        for _ in range(levels):
            value = [value]
        return ASK | {"metadata": value}

    assert forwarded(nested(3))["metadata"] == [[["x"]]]
    read(nested(5), ChatLimits(depth=6))
    with pytest.raises(ChatRefused, match="6 levels"):
        read(nested(6), ChatLimits(depth=6))


PARTS = st.dictionaries(st.sampled_from(["type", "text", "image_url", "video_url"]), JSON | st.just("image_url"))
MESSAGES = st.lists(st.fixed_dictionaries({"role": JSON, "content": st.lists(PARTS | JSON, max_size=2) | JSON}))
FIELDS = st.sampled_from([*ASK, *REFUSED_FIELDS, "stream", "n", "stop", "stream_options", "top_logprobs", "tools"])


@given(st.dictionaries(FIELDS, JSON | MESSAGES, max_size=3).map(lambda changes: ASK | changes) | JSON)
def test_any_json_is_admitted_as_one_sound_object_or_refused(request: object) -> None:
    try:
        admitted = read(request)
    except ChatRefused:
        return
    sent = json.loads(admitted.body)
    assert sent["model"] == "m"
    assert sent["messages"]
    assert not REFUSED_FIELDS.intersection(sent) - {"cache_salt"}
    assert "http" not in json.dumps(sent["messages"])


@pytest.mark.parametrize("kind", [[], {}, None, 1, "video_url", "image_embeds"])
def test_a_part_of_another_kind_is_refused(kind: object) -> None:
    with pytest.raises(ChatRefused, match="its type must be one of"):
        read(ASK | {"messages": [{"role": "user", "content": [{"type": kind, "text": "x"}]}]})


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_without_being_quoted(body: bytes) -> None:
    with pytest.raises(ChatRefused) as refusal:
        read(body)

    assert refusal.value.detail == "The body is not a JSON object in UTF-8." or refusal.value.param == "model"


@pytest.mark.parametrize("asked", [{"choice": ["a"]}, {"regex": "a+"}, {"grammar": "root ::= a"}, []])
def test_a_structure_that_the_model_would_not_keep_to_is_refused(asked: object) -> None:
    with pytest.raises(ChatRefused) as refused:
        read(ASK | {"structured_outputs": asked})

    assert refused.value.param == "structured_outputs"
    assert forwarded(ASK | {"structured_outputs": {"json": {}}})["structured_outputs"] == {"json": {}}
