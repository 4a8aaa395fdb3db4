"""What the gateway refuses leaves no usage record, and the engine hears nothing of it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.api.gateway.conftest import Running
from tests.support.fake_engine import MODEL, FakeEngine

ASK = [{"role": "user", "content": "Hello"}]


def image(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"ignore_eos": True}, "ignore_eos"),
        ({"chat_template": "{{ x }}"}, "chat_template"),
        ({"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
        ({"mm_processor_kwargs": {"code_revision": "x"}}, "mm_processor_kwargs"),
        ({"kv_transfer_params": {}}, "kv_transfer_params"),
        ({"cache_salt": "mine"}, "cache_salt"),
        ({"n": 16384}, "n"),
        ({"n": True}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"reasoning_effort": "most"}, "reasoning_effort"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"messages": image("https://example.test/cat.png")}, "messages[0].content[0]"),
        ({"messages": image("file:///etc/passwd")}, "messages[0].content[0]"),
        ({"messages": image(" data:image/png;base64,AA==")}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"video_url": {"url": "http://x"}}]}]},
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "image_url": "http://x"}]}]},
            "messages[0].content[0]",
        ),
    ],
)
async def test_a_dangerous_field_is_refused_by_name(
    gateway: Running, engine: FakeEngine, change: dict[str, Any], param: str
) -> None:
    async with gateway.http() as http:
        answer = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": ASK} | change)

    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert engine.seen == []
    assert gateway.ledger.records() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe{}",
        b'{"model":"mistral-medium-3.5","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"model":"mistral-medium-3.5","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"model":"mistral-medium-3.5","n":' + b"9" * 5_000 + b"}",
    ],
)
async def test_a_body_that_is_not_sound_json_is_refused(gateway: Running, engine: FakeEngine, body: bytes) -> None:
    async with gateway.http() as http:
        answer = await http.post("/v1/chat/completions", content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "chat-refused"
    assert engine.seen == []
    assert gateway.ledger.records() == []


async def test_an_unknown_model_is_not_found(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.sdk() as sdk:
        with pytest.raises(openai.NotFoundError) as failure:
            await sdk.chat.completions.create(model="gpt-5", messages=ASK)

    assert failure.value.code == "model_not_found"
    assert engine.seen == []
    assert gateway.ledger.records() == []


@pytest.mark.parametrize("secret", ["lwd_wrong", "x" * 10_000, "lwd_\u00e9"])
async def test_a_wrong_key_is_refused(gateway: Running, engine: FakeEngine, secret: str) -> None:
    async with gateway.http() as http:
        answer = await http.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": ASK},
            headers={"Authorization": f"Bearer {secret}".encode("latin-1")},
        )
        models = await http.get("/v1/models", headers={"Authorization": "Bearer lwd_wrong"})

    assert answer.status_code == models.status_code == 401
    assert answer.json()["error"]["code"] == models.json()["error"]["code"] == "invalid_api_key"
    assert engine.seen == []
    assert gateway.ledger.records() == []


async def test_the_second_model_of_a_body_is_the_one_that_is_judged_and_forwarded(
    gateway: Running, engine: FakeEngine
) -> None:
    async with gateway.http() as http:
        refused = await http.post(
            "/v1/chat/completions", content=b'{"model":"%b","model":"other","messages":[]}' % MODEL.encode()
        )

    assert refused.status_code == 404
    assert engine.seen == []


async def test_a_body_over_the_limit_is_refused_before_it_is_read(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.http() as http:
        answer = await http.post("/v1/chat/completions", content=b" " * (64 * 1024 * 1024 + 1))

    assert answer.status_code == 413
    assert engine.seen == []
    assert gateway.ledger.records() == []


async def test_a_large_image_goes_through(gateway: Running, engine: FakeEngine) -> None:
    url = "data:image/png;base64," + "A" * (20 * 1024 * 1024)
    async with gateway.http() as http:
        answer = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": image(url)}, timeout=60)

    assert answer.status_code == 200
    assert engine.seen[0].body["messages"][0]["content"][0]["image_url"]["url"] == url
    assert len(gateway.ledger.records()) == 1


async def test_a_field_that_means_nothing_is_taken_out(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.http() as http:
        ask = {"model": MODEL, "messages": ASK, "ignore_eos": False, "chat_template": None}
        answer = await http.post("/v1/chat/completions", json=ask)

    forwarded = engine.seen[0].body
    assert answer.status_code == 200
    assert "ignore_eos" not in forwarded
    assert "chat_template" not in forwarded
    assert 1 <= len(forwarded["cache_salt"]) <= 1024


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/invocations",
        "/tokenize",
        "/load",
        "/redoc",
        "/v1/chat/completions/batch",
        "/v1/completions/render",
        "/v1/../health",
    ],
)
async def test_the_engines_other_doors_are_shut(gateway: Running, engine: FakeEngine, path: str) -> None:
    async with gateway.http() as http:
        posted, got = await http.post(path, json={}), await http.get(path)

    assert {posted.status_code, got.status_code} <= {404, 405}
    assert "error" in posted.json()
    assert engine.seen == []


async def test_models_are_listed_and_described(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.sdk() as sdk:
        listed = await sdk.models.list()
        one = await sdk.models.retrieve(MODEL)
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("other/model")

    assert [model.id for model in listed.data] == [MODEL]
    assert one.to_dict()["max_context_length"] == 262144
    assert one.to_dict()["capabilities"]["completion_fim"] is False  # type: ignore[index]  # extra field of the SDK's model
    assert engine.seen == []


async def test_health_needs_no_key_and_tells_whether_the_engine_lives(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.http("none") as http:
        alive = await http.get("/healthz")
        await engine.stop()
        await asyncio.sleep(1.1)
        dead = await http.get("/healthz")

    assert (alive.status_code, alive.json()) == (200, {"engine": "ok", "ledger": "ok"})
    assert (dead.status_code, dead.json()) == (503, {"engine": "unreachable", "ledger": "ok"})
