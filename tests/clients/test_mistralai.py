"""Mistral's own SDK: chat, streams, tools, its own fields, models, and what is refused."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from bundles.tiny import SENTENCE, TOOL_NAME
from tests.clients.gateways import MODEL, Door
from tests.compat.test_real_engine import WEATHER

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

ASK: Any = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture
def sdk(door: Door) -> Iterator[Mistral]:
    context = ssl.create_default_context(cafile=str(door.authority))
    with httpx.Client(verify=context) as http:
        yield Mistral(server_url=door.url, api_key=door.secret, client=http)


def test_chat_takes_mistrals_own_fields(sdk: Mistral, door: Door) -> None:
    answer = sdk.chat.complete(model=MODEL, messages=ASK, temperature=0, max_tokens=64, random_seed=7, safe_prompt=True)
    safe = door.newest.usage.prompt_tokens
    sdk.chat.complete(model=MODEL, messages=ASK, temperature=0)

    assert answer.choices[0].message.content == SENTENCE
    assert answer.usage.completion_tokens == 28
    assert safe is not None
    assert door.newest.usage.prompt_tokens is not None
    assert safe > door.newest.usage.prompt_tokens + 10


def test_chat_is_streamed_with_usage(sdk: Mistral, door: Door) -> None:
    with sdk.chat.stream(model=MODEL, messages=ASK, temperature=0) as stream:
        events = list(stream)

    assert "".join(event.data.choices[0].delta.content or "" for event in events if event.data.choices) == SENTENCE
    assert door.newest.usage.completion_tokens == 28


def test_any_tool_is_called(sdk: Mistral) -> None:
    answer = sdk.chat.complete(model=MODEL, messages=ASK, tools=[WEATHER], tool_choice="any", temperature=0)

    (call,) = answer.choices[0].message.tool_calls
    arguments = call.function.arguments
    assert call.function.name == TOOL_NAME
    assert (json.loads(arguments) if isinstance(arguments, str) else arguments) == {"city": "Paris"}


def test_models_are_described_with_mistrals_fields(sdk: Mistral) -> None:
    (listed,) = sdk.models.list().data
    one = sdk.models.retrieve(model_id=MODEL)

    assert listed.id == one.id == MODEL
    assert one.max_context_length == listed.max_context_length > 1_000
    assert one.capabilities.vision
    assert one.capabilities.function_calling
    assert not one.capabilities.completion_fim


def test_filling_in_the_middle_is_refused_in_words(sdk: Mistral, door: Door) -> None:
    count = len(door.records())
    with pytest.raises(SDKError, match="does not fill in the middle") as refused:
        sdk.fim.complete(model=MODEL, prompt="def f(", suffix="return 1")

    assert refused.value.status_code == 404
    assert len(door.records()) == count
