"""Bytes in, bytes out: what the engine will read of a request for a response."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.domain.errors import ChatRefused
from appliance.services.request_body import ChatLimits, JudgedRequest
from appliance.services.responses import read_responses_request

ASK: dict[str, Any] = {"model": "m", "input": "Hello"}
PIXEL = "data:image/png;base64,AAAA"


def read(request: dict[str, Any]) -> JudgedRequest:
    return read_responses_request(
        json.dumps(request).encode(), served_model="m", cache_salt="salt", limits=ChatLimits()
    )


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": list(parts)}]}


def test_a_plain_request_is_marked_as_not_stored_and_salted() -> None:
    assert json.loads(read(ASK).body) == ASK | {"store": False, "cache_salt": "salt"}


def test_parts_of_text_are_joined_because_the_engine_takes_none_here() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "!"}]}
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    talk = [
        {"role": "user", "content": [{"type": "input_text", "text": "So"}, {"type": "input_text", "text": "?"}]},
        thought,
        call,
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "sunny"}]},
        answer,
    ]

    sent = json.loads(read(ASK | {"input": talk, "tools": tools}).body)

    assert sent["tools"] == tools
    assert sent["input"] == [
        {"role": "user", "content": "So?"},
        thought,
        call,
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
        {"type": "message", "role": "assistant", "content": "!"},
    ]


@pytest.mark.parametrize(("asked", "told"), [("minimal", "none"), ("medium", "high"), ("xhigh", "high")])
def test_effort_is_one_of_the_models_two_levels(asked: str, told: str) -> None:
    request = read(ASK | {"reasoning": {"effort": asked, "summary": "auto"}})

    assert request.reasoning_effort == told
    assert json.loads(request.body)["reasoning"] == {"effort": told, "summary": "auto"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"previous_input_messages": []}, "previous_input_messages"),
        ({"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp", "server_url": "http://x"}]}, "tools[0].type"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"reasoning": {"effort": "most"}}, "reasoning.effort"),
        (message({"type": "input_image", "image_url": "https://x/cat.png"}), "input[0].content[0]"),
        (message({"type": "input_image", "file_id": "file_1"}), "input[0].content[0]"),
        (message({"type": "input_file", "file_url": "https://x"}), "input[0].content[0].type"),
        (message({"type": "input_image", "image_url": PIXEL}), "input[0].content[0]"),
        (message({"type": "input_text", "text": 1}), "input[0].content[0]"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
        (message({"type": "image_url", "image_url": {"url": "https://x"}}), "input[0].content[0].type"),
        (
            {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": "http://x"}]}]},
            "input[0].output[0]",
        ),
    ],
)
def test_what_is_not_forwarded_is_refused_by_name(change: dict[str, Any], param: str) -> None:
    with pytest.raises(ChatRefused) as refused:
        read(ASK | change)

    assert refused.value.param == param


def test_a_stored_response_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ChatRefused, match="send the whole conversation as input"):
        read(ASK | {"previous_response_id": "resp_1"})
