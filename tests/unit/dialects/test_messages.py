"""Bytes in, bytes out: what the engine will read of a request for a message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.domain.errors import ChatRefused
from appliance.services.messages import read_count_request, read_messages_request
from appliance.services.request_body import ChatLimits, JudgedRequest

TALK = [{"role": "user", "content": "Hello"}]
ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": TALK}
PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
AFAR = {"type": "image", "source": {"type": "url", "url": "https://x/cat.png"}}


def read(request: dict[str, Any]) -> JudgedRequest:
    return read_messages_request(json.dumps(request).encode(), served_model="m", cache_salt="salt", limits=ChatLimits())


def talk(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def test_a_plain_request_goes_on_with_a_cache_salt_and_nothing_else() -> None:
    assert json.loads(read(ASK).body) == ASK | {"cache_salt": "salt"}


def test_a_tools_result_with_an_image_goes_on_as_it_is() -> None:
    change = talk({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "see"}, PIXEL]})

    assert json.loads(read(ASK | change).body)["messages"] == change["messages"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}}, "none"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "high"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "none"),
        ({"output_config": {"effort": "max"}}, "high"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "none"),
    ],
)
def test_thinking_is_one_of_the_models_two_levels(asked: dict[str, Any], told: str | None) -> None:
    request = read(ASK | asked)

    sent = json.loads(request.body)
    assert request.reasoning_effort == told
    assert sent.get("thinking", {}).get("type") == {None: None, "none": "disabled", "high": "adaptive"}[told]
    assert sent.get("output_config", {}).get("effort") == ("high" if told == "high" else None)
    assert "budget_tokens" not in sent.get("thinking", {})


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "claude"}, "model"),
        ({"messages": []}, "messages"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
        ({"cache_salt": "mine"}, "cache_salt"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"stop_sequences": ["a"] * 5}, "stop_sequences"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"output_config": {"effort": "most"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config.format"),
        (talk(AFAR), "messages[0].content[0].source"),
        (talk({"type": "document", "source": {"type": "file", "file_id": "f"}}), "messages[0].content[0].type"),
        (talk({"type": "text", "text": "a", "source": {"type": "url"}}), "messages[0].content[0]"),
        (talk({"type": "tool_result", "content": [AFAR]}), "messages[0].content[0].content[0].source"),
        (
            talk({"type": "image", "source": {"type": "base64", "media_type": "text/html", "data": ""}}),
            "messages[0].content[0].source.media_type",
        ),
    ],
)
def test_what_is_not_forwarded_is_refused_by_name(change: dict[str, Any], param: str) -> None:
    with pytest.raises(ChatRefused) as refused:
        read(ASK | change)

    assert refused.value.param == param


def test_a_request_to_count_is_judged_alike() -> None:
    def count(request: dict[str, Any]) -> JudgedRequest:
        body = json.dumps(request).encode()
        return read_count_request(body, served_model="m", cache_salt="salt", limits=ChatLimits())

    ask = {"model": "m", "messages": TALK}

    assert json.loads(count(ask).body) == ask
    with pytest.raises(ChatRefused):
        count(ask | talk(AFAR))
