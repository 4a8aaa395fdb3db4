"""OpenAI's own SDK: chat, completions, responses, tools, images, structured output."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from appliance.domain.usage import UsageSource, UsageState
from bundles.tiny import SENTENCE, THOUGHT, TOOL_NAME
from tests.clients.gateways import MODEL, Door
from tests.compat.test_real_engine import WEATHER, png

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

ASK: Any = [{"role": "user", "content": "Who are you?"}]
FLAT_TOOL: Any = {"type": "function", **WEATHER["function"]}  # type: ignore[dict-item]  # a literal of JSON


@pytest.fixture
def sdk(door: Door) -> Iterator[openai.OpenAI]:
    context = ssl.create_default_context(cafile=str(door.authority))
    with openai.OpenAI(
        base_url=f"{door.url}/v1", api_key=door.secret, max_retries=0, http_client=httpx.Client(verify=context)
    ) as sdk:
        yield sdk


def test_chat_is_answered_and_its_usage_is_what_the_client_reads(sdk: openai.OpenAI, door: Door) -> None:
    answer = sdk.chat.completions.create(model=MODEL, messages=ASK, temperature=0)

    record = door.newest
    assert answer.choices[0].message.content == SENTENCE
    assert answer.usage is not None
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (answer.usage.prompt_tokens, 28)
    assert (record.endpoint, record.state) == ("/v1/chat/completions", UsageState.SETTLED)


def test_reasoning_comes_under_both_names(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model=MODEL, messages=ASK, temperature=0, reasoning_effort="medium")
    stream = sdk.chat.completions.create(model=MODEL, messages=ASK, temperature=0, reasoning_effort="high", stream=True)

    said = whole.choices[0].message.to_dict()
    deltas = [chunk.choices[0].delta.to_dict() for chunk in stream if chunk.choices]
    assert said["reasoning"] == said["reasoning_content"] == THOUGHT
    for name in ("reasoning", "reasoning_content"):
        assert "".join(str(delta.get(name) or "") for delta in deltas) == THOUGHT
    assert "".join(str(delta.get("content") or "") for delta in deltas) == SENTENCE


def test_a_tool_is_called_and_its_result_is_taken(sdk: openai.OpenAI) -> None:
    tools: Any = [WEATHER]
    first = sdk.chat.completions.create(model=MODEL, messages=ASK, tools=tools, temperature=0).choices[0]
    assert first.message.tool_calls is not None
    (call,) = first.message.tool_calls
    assert call.type == "function"
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}

    second = sdk.chat.completions.create(
        model=MODEL, messages=[*ASK, first.message.to_dict(), result], tools=tools, temperature=0
    )

    assert (first.finish_reason, call.function.name) == ("tool_calls", TOOL_NAME)
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert second.choices[0].message.content == SENTENCE


def test_an_image_is_seen_as_data_and_never_fetched(sdk: openai.OpenAI, door: Door) -> None:
    def look_at(url: str) -> int:
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
        messages: Any = [{"role": "user", "content": parts}]
        usage = sdk.chat.completions.create(model=MODEL, messages=messages, temperature=0).usage
        return 0 if usage is None else usage.prompt_tokens

    text_alone = 30
    seen = look_at("data:image/png;base64," + base64.b64encode(png(160, 120)).decode())
    count = len(door.records())
    with pytest.raises(openai.BadRequestError, match="nothing is fetched here"):
        look_at("http://127.0.0.1:9/cat.png")

    assert seen > text_alone
    assert len(door.records()) == count


def test_structured_output_is_kept_to(sdk: openai.OpenAI) -> None:
    class Verdict(BaseModel):
        city: str

    schema = Verdict.model_json_schema() | {"additionalProperties": False}
    stream = sdk.chat.completions.create(
        model=MODEL,
        messages=ASK,
        temperature=0,
        max_tokens=24,
        stream=True,
        response_format={"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}},
    )

    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text.startswith('{"city"')  # the tiny model may then go on with spaces, which the grammar allows


def test_completions_are_answered_and_streamed_with_usage(sdk: openai.OpenAI, door: Door) -> None:
    whole = sdk.completions.create(model=MODEL, prompt="Who", max_tokens=5, temperature=0)
    record = door.newest
    stream = sdk.completions.create(
        model=MODEL, prompt="Who", max_tokens=5, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert SENTENCE.startswith(whole.choices[0].text)
    assert chunks[-1].usage is not None
    for seen in (record, door.newest):
        assert (seen.endpoint, seen.state) == ("/v1/completions", UsageState.SETTLED)
        assert (seen.usage.completion_tokens, seen.usage_source) == (5, UsageSource.FINAL)


def test_responses_are_answered_with_parts_of_text_and_metered(sdk: openai.OpenAI, door: Door) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "input_text", "text": "Who are you?"}]}]
    answer = sdk.responses.create(model=MODEL, input=parts, temperature=0, reasoning={"effort": "medium"})

    record = door.newest
    assert answer.output_text == SENTENCE
    assert answer.output[0].type == "reasoning"
    assert answer.usage is not None
    assert (record.endpoint, record.state) == ("/v1/responses", UsageState.SETTLED)
    assert record.usage.completion_tokens == answer.usage.output_tokens
    assert record.usage.reasoning_tokens == answer.usage.output_tokens_details.reasoning_tokens > 0


def test_responses_are_streamed_to_their_last_event_and_metered(sdk: openai.OpenAI, door: Door) -> None:
    with sdk.responses.stream(model=MODEL, input="Who are you?", temperature=0) as stream:
        final = stream.get_final_response()

    assert final.output_text == SENTENCE
    assert (door.newest.state, door.newest.outcome) == (UsageState.SETTLED, "completed")
    assert door.newest.usage.completion_tokens == 28
    assert door.newest.first_token_at is not None


def test_a_response_calls_a_tool_and_takes_its_result(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model=MODEL, input="How is the weather?", tools=[FLAT_TOOL], temperature=0)
    (call,) = first.output
    assert call.type == "function_call"
    talk: Any = [
        {"role": "user", "content": "How is the weather?"},
        call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]

    second = sdk.responses.create(model=MODEL, input=talk, tools=[FLAT_TOOL], temperature=0)

    assert json.loads(call.arguments) == {"city": "Paris"}
    assert second.output_text == SENTENCE


def test_stored_responses_are_refused_in_words(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="send the whole conversation as input"):
        sdk.responses.create(model=MODEL, input="Go on.", previous_response_id="resp_1")
    with pytest.raises(openai.NotFoundError, match="not stored"):
        sdk.responses.retrieve("resp_1")


def test_models_are_listed(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == [MODEL]
    assert sdk.models.retrieve(MODEL).id == MODEL
