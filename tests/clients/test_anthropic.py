"""Anthropic's own SDK: messages, streams, thinking, tools, images, the count of tokens, errors."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from appliance.domain.usage import UsageState
from bundles.tiny import SENTENCE, THOUGHT, TOOL_NAME
from tests.clients.gateways import MODEL, Door
from tests.compat.test_real_engine import WEATHER, png

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

ASK: Any = [{"role": "user", "content": "Who are you?"}]
FUNCTION: Any = WEATHER["function"]
TOOL: Any = {"name": FUNCTION["name"], "input_schema": FUNCTION["parameters"]}


@pytest.fixture
def sdk(door: Door) -> Iterator[anthropic.Anthropic]:
    context = ssl.create_default_context(cafile=str(door.authority))
    with anthropic.Anthropic(
        base_url=door.url, api_key=door.secret, max_retries=0, http_client=httpx2.Client(verify=context)
    ) as sdk:
        yield sdk


def test_a_message_is_answered_and_metered(sdk: anthropic.Anthropic, door: Door) -> None:
    answer = sdk.messages.create(model=MODEL, max_tokens=64, messages=ASK)

    record = door.newest
    assert answer.content[0].type == "text"
    assert answer.content[0].text == SENTENCE
    assert (record.endpoint, record.state, record.finish_reason) == ("/v1/messages", UsageState.SETTLED, "end_turn")
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (answer.usage.input_tokens, 28)


def test_a_stream_thinks_first_and_is_metered_to_its_end(sdk: anthropic.Anthropic, door: Door) -> None:
    with sdk.messages.stream(
        model=MODEL, max_tokens=2_000, messages=ASK, thinking={"type": "enabled", "budget_tokens": 1_024}
    ) as stream:
        final = stream.get_final_message()

    record = door.newest
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert getattr(final.content[0], "thinking", None) == THOUGHT
    assert (record.state, record.outcome) == (UsageState.SETTLED, "completed")
    assert record.usage.completion_tokens == final.usage.output_tokens
    assert record.first_token_at is not None


def test_a_tool_is_called_and_its_result_is_taken(sdk: anthropic.Anthropic) -> None:
    first = sdk.messages.create(model=MODEL, max_tokens=64, messages=ASK, tools=[TOOL])
    (use,) = first.content
    assert use.type == "tool_use"
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}]}
    talk: Any = [*ASK, {"role": "assistant", "content": [use.to_dict()]}, {"role": "user", "content": [result]}]

    second = sdk.messages.create(model=MODEL, max_tokens=64, messages=talk, tools=[TOOL])

    assert (first.stop_reason, use.name, use.input) == ("tool_use", TOOL_NAME, {"city": "Paris"})
    assert getattr(second.content[0], "text", None) == SENTENCE


def test_an_image_is_seen_as_base64_and_never_fetched(sdk: anthropic.Anthropic, door: Door) -> None:
    def look_at(source: dict[str, str]) -> anthropic.types.Message:
        parts: Any = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
        return sdk.messages.create(model=MODEL, max_tokens=64, messages=[{"role": "user", "content": parts}])

    data = base64.b64encode(png(160, 120)).decode()
    seen = look_at({"type": "base64", "media_type": "image/png", "data": data})
    count = len(door.records())
    with pytest.raises(anthropic.BadRequestError, match="nothing is fetched here") as refused:
        look_at({"type": "url", "url": "http://127.0.0.1:9/cat.png"})

    assert seen.usage.input_tokens > 30
    assert refused.value.type == "invalid_request_error"
    assert len(door.records()) == count


def test_counting_tokens_costs_none(sdk: anthropic.Anthropic, door: Door) -> None:
    counted = sdk.messages.count_tokens(model=MODEL, messages=ASK)

    record = door.newest
    asked = sdk.messages.create(model=MODEL, max_tokens=1, messages=ASK)
    assert counted.input_tokens == asked.usage.input_tokens
    assert (record.endpoint, record.state) == ("/v1/messages/count_tokens", UsageState.SETTLED)
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (0, 0)


def test_errors_have_anthropics_types(sdk: anthropic.Anthropic, door: Door) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        sdk.messages.create(model="claude", max_tokens=1, messages=ASK)
    with pytest.raises(anthropic.BadRequestError) as refused_by_engine:
        sdk.messages.create(model=MODEL, max_tokens=999_999, messages=ASK, timeout=60)
    with pytest.raises(anthropic.AuthenticationError) as stranger:
        sdk.with_options(api_key="lwd_wrong").messages.create(model=MODEL, max_tokens=1, messages=ASK)

    assert unknown.value.type == "not_found_error"
    assert refused_by_engine.value.type == "invalid_request_error"
    assert "max_model_len" in refused_by_engine.value.message
    assert stranger.value.type == "authentication_error"
    assert door.newest.outcome == "upstream_refused"


def test_models_are_listed_as_anthropic_lists_them(sdk: anthropic.Anthropic) -> None:
    assert [(model.type, model.id) for model in sdk.models.list()] == [("model", MODEL)]
    assert sdk.models.retrieve(MODEL).display_name == MODEL
