"""OpenAI's own SDK, over TLS, through the gateway, to a stand-in for vLLM."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import openai
import pytest

from appliance.domain.usage import TokenUsage, UsageRecord, UsageSource, UsageState
from tests.api.gateway.conftest import Ledger, Running
from tests.support.fake_engine import MODEL, PROMPT_TOKENS, FakeEngine

ASK = [{"role": "user", "content": "Tell me a secret about elephants."}]
FINAL = TokenUsage(prompt_tokens=PROMPT_TOKENS, completion_tokens=5, cached_tokens=4, reasoning_tokens=2)


async def eventually_one_closed(ledger: Ledger) -> UsageRecord:
    for _ in range(300):
        records = ledger.records()
        if records and records[0].state is not UsageState.ADMITTED:
            assert len(records) == 1
            return records[0]
        await asyncio.sleep(0.01)
    raise AssertionError(f"no closed record: {ledger.records()}")


async def test_an_answer_is_metered_as_the_sdk_sees_it(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.sdk() as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(model=MODEL, messages=ASK)
    answer = raw.parse()

    (record,) = gateway.ledger.records()
    assert answer.choices[0].message.content == " word" * 5
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, 5)
    assert record.usage == FINAL
    assert record.state is UsageState.SETTLED
    assert record.usage_source is UsageSource.FINAL
    assert (record.outcome, record.http_status, record.finish_reason) == ("completed", 200, "stop")
    assert record.first_token_at is None
    assert (record.key_id, record.team, record.stream) == (gateway.ledger.key.key_id, "research", False)
    assert record.request_id == raw.headers["x-request-id"] == engine.seen[0].request_id


async def test_a_stream_without_usage_shows_none_and_is_metered_all_the_same(
    gateway: Running, engine: FakeEngine
) -> None:
    async with gateway.sdk() as sdk:
        stream = await sdk.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        chunks = [chunk async for chunk in stream]

    (record,) = gateway.ledger.records()
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == " word1 word2 word3 word4 word5"
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert record.usage == FINAL
    assert (record.state, record.outcome, record.finish_reason) == (UsageState.SETTLED, "completed", "stop")
    assert record.first_token_at is not None
    assert record.admitted_at <= record.first_token_at <= (record.settled_at or record.admitted_at)
    assert engine.seen[0].body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


async def test_a_stream_with_usage_shows_it_once_at_the_end(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    (record,) = gateway.ledger.records()
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    last = chunks[-1].usage
    assert last is not None
    assert (last.prompt_tokens, last.completion_tokens) == (PROMPT_TOKENS, engine.generated)
    assert record.usage == FINAL


async def test_the_callers_bytes_are_those_of_an_engine_that_was_not_asked(
    gateway: Running, engine: FakeEngine
) -> None:
    ask = {"model": MODEL, "messages": ASK, "stream": True}
    async with gateway.http() as http:
        through = (await http.post("/v1/chat/completions", json=ask)).content

    events = [json.loads(event[6:]) for event in through.decode().split("\n\n") if event and event != "data: [DONE]"]
    expected = [b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode() for event in events]
    assert through == b"".join(expected) + b"data: [DONE]\n\n"
    assert b"usage" not in through
    assert engine.generated == len(events) - 1


async def test_a_caller_that_leaves_stops_the_engine_and_pays_for_what_was_made(
    gateway: Running, engine: FakeEngine
) -> None:
    engine.script.tokens, engine.script.gap_s = 300, 0.02
    async with gateway.sdk() as sdk:
        stream = await sdk.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        seen = 0
        async for chunk in stream:
            seen += bool(chunk.choices[0].delta.content)
            if seen == 5:
                break
        await stream.close()

    record = await eventually_one_closed(gateway.ledger)
    assert (record.state, record.outcome) == (UsageState.PARTIAL, "client_closed")
    assert record.usage_source is UsageSource.CONTINUOUS
    assert 5 <= (record.usage.completion_tokens or 0) <= engine.generated
    assert record.usage.cached_tokens is None
    await asyncio.sleep(0.1)
    assert engine.generated <= 8
    assert not engine.seen[0].finished


async def test_a_caller_that_leaves_before_an_answer_stops_the_engine_too(gateway: Running, engine: FakeEngine) -> None:
    engine.script.tokens, engine.script.gap_s = 300, 0.02
    async with gateway.sdk() as sdk:
        with pytest.raises(openai.APITimeoutError):
            await sdk.chat.completions.create(model=MODEL, messages=ASK, timeout=0.2)

    record = await eventually_one_closed(gateway.ledger)
    assert (record.state, record.outcome, record.http_status) == (UsageState.PARTIAL, "client_closed", 499)
    assert record.usage.completion_tokens is None
    made = engine.generated
    await asyncio.sleep(0.1)
    assert engine.generated <= made + 1 < 30


async def test_an_engine_that_breaks_off_leaves_a_partial_record_and_an_error(
    gateway: Running, engine: FakeEngine
) -> None:
    engine.script.tokens, engine.script.lose_after, engine.script.gap_s = 50, 3, 0.01
    async with gateway.sdk() as sdk:
        stream = await sdk.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in stream:
                pass

    (record,) = gateway.ledger.records()
    assert (record.state, record.outcome, record.http_status) == (UsageState.PARTIAL, "upstream_lost", 200)
    assert record.usage.completion_tokens in (2, 3)


async def test_an_error_in_the_stream_is_not_a_success_although_it_ends_with_done(
    gateway: Running, engine: FakeEngine
) -> None:
    engine.script.tokens, engine.script.error_after = 50, 3
    async with gateway.sdk() as sdk:
        stream = await sdk.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="boom"):
            async for _ in stream:
                pass

    (record,) = gateway.ledger.records()
    assert (record.state, record.outcome) == (UsageState.PARTIAL, "upstream_error")
    assert record.usage.completion_tokens == 3


async def test_a_lost_engine_gives_503_and_a_record_without_counts(gateway: Running, engine: FakeEngine) -> None:
    await engine.stop()
    async with gateway.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as failure:
            await sdk.chat.completions.create(model=MODEL, messages=ASK, stream=True)

    (record,) = gateway.ledger.records()
    assert failure.value.status_code == 503
    assert failure.value.response.headers["retry-after"] == "5"
    assert (record.state, record.outcome, record.http_status) == (UsageState.PARTIAL, "upstream_error", 503)
    assert record.usage == TokenUsage(prompt_tokens=None, completion_tokens=None)


async def test_what_the_engine_refuses_is_passed_on_and_recorded(gateway: Running, engine: FakeEngine) -> None:
    engine.script.refuse_with = 400
    async with gateway.sdk() as sdk:
        with pytest.raises(openai.BadRequestError, match="refused by the engine"):
            await sdk.chat.completions.create(model=MODEL, messages=ASK)

    (record,) = gateway.ledger.records()
    assert (record.outcome, record.http_status, record.usage_source) == ("upstream_refused", 400, UsageSource.NONE)


async def test_effort_levels_are_mapped_and_said(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.sdk() as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, reasoning_effort="medium")

    assert raw.headers["x-leeward-reasoning-effort"] == "high"
    assert engine.seen[0].body["reasoning_effort"] == "high"


async def test_a_key_of_another_kind_of_header_works_too(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.http() as http:
        http.headers.pop("authorization")
        http.headers["x-api-key"] = gateway.ledger.secret
        answer = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": ASK})

    assert answer.status_code == 200
    assert len(engine.seen) == len(gateway.ledger.records()) == 1


async def test_neither_prompt_nor_answer_nor_secret_is_written_anywhere(
    gateway: Running, engine: FakeEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    async with gateway.sdk() as sdk:
        await sdk.chat.completions.create(model=MODEL, messages=ASK)
        with pytest.raises(openai.BadRequestError):
            await sdk.chat.completions.create(
                model=MODEL, messages=ASK, extra_body={"chat_template": "elephants", "messages": ASK}
            )

    written = b"".join(path.read_bytes() for path in gateway.ledger.path.parent.glob("ledger.db*"))
    printed = "".join(capfd.readouterr())
    assert engine.generated == 5
    for text in ("elephants", " word word", gateway.ledger.secret):
        assert text.encode() not in written
        assert text not in printed


async def test_a_revoked_key_is_refused_within_a_second(gateway: Running, engine: FakeEngine) -> None:
    async with gateway.sdk() as sdk:
        await sdk.chat.completions.create(model=MODEL, messages=ASK)
        gateway.ledger.keys.revoke(gateway.ledger.key.key_id, datetime.now(UTC))
        await asyncio.sleep(1.0)
        with pytest.raises(openai.AuthenticationError):
            await sdk.chat.completions.create(model=MODEL, messages=ASK)

    assert len(engine.seen) == len(gateway.ledger.records()) == 1
