"""The page of metrics, read as a site's monitoring reads it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.entrypoints.gateway.exposition import MetricsAccess
from appliance.services.queueing import QueueLimits
from tests.api.gateway.conftest import MONITORING, Ledger, Running, gateway_of
from tests.support.fake_engine import MODEL, PROMPT_TOKENS, FakeEngine

ASK = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"
ACCESS = MetricsAccess(token_sha256=hashlib.sha256(MONITORING.encode()).hexdigest())


@pytest.fixture
async def watched(tmp_path: Path, ledger: Ledger, engine: FakeEngine) -> AsyncIterator[Running]:
    assert engine.generated == 0
    async with gateway_of(ledger, tmp_path, metrics=ACCESS) as running:
        yield running


async def page(gateway: Running, token: str = MONITORING) -> httpx.Response:
    async with gateway.http(token) as http:
        return await http.get("/metrics")


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    """Add up the samples that carry at least these labels."""
    wanted = set(labels.items())
    found = [number for (seen, given), number in samples(text).items() if seen == name and wanted <= given]
    return sum(found) if found else None


async def test_a_request_is_counted_by_route_team_and_outcome_with_its_tokens(watched: Running) -> None:
    async with watched.sdk() as sdk:
        stream = await sdk.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        assert [chunk async for chunk in stream]
        await sdk.chat.completions.create(model=MODEL, messages=ASK)

    text = (await page(watched)).text
    assert value(text, "leeward_requests_total", route=CHAT, team="research", outcome="completed") == 2
    assert value(text, "leeward_tokens_total", team="research", kind="prompt") == 2 * PROMPT_TOKENS
    assert value(text, "leeward_tokens_total", team="research", kind="completion") == 10
    assert value(text, "leeward_tokens_total", team="research", kind="cached") == 8
    assert value(text, "leeward_tokens_total", team="research", kind="reasoning") == 4
    assert value(text, "leeward_usage_source_total", source="final") == 2
    output = {"gen_ai_token_type": "output"}
    chat = {"gen_ai_operation_name": "chat", "gen_ai_request_model": MODEL, "gen_ai_provider_name": "mistral_ai"}
    assert value(text, "gen_ai_server_request_duration_seconds_count", error_type="", **chat) == 2
    assert value(text, "gen_ai_server_time_to_first_token_seconds_count", **chat) == 1
    assert value(text, "gen_ai_server_time_per_output_token_seconds_count", **chat) == 1
    assert value(text, "gen_ai_client_token_usage_sum", **chat, **output) == 10
    assert value(text, "leeward_queue_wait_seconds_count") == 2
    assert value(text, "leeward_refusals_total") is None
    assert "Hello" not in text
    assert "word" not in text


async def test_refusals_are_counted_by_reason_and_not_as_requests(watched: Running, engine: FakeEngine) -> None:
    async with watched.http() as http:
        await http.post(CHAT, json={"model": MODEL, "messages": ASK, "n": 99})
        await http.post(CHAT, json={"model": MODEL, "messages": ASK}, headers={"Authorization": "Bearer lwd_wrong"})

    text = (await page(watched)).text
    assert value(text, "leeward_refusals_total", route=CHAT, reason="chat-refused") == 1
    assert value(text, "leeward_refusals_total", route=CHAT, reason="invalid_api_key") == 1
    assert value(text, "leeward_requests_total") is None
    assert engine.seen == []


async def test_a_lost_engine_is_an_error_with_its_outcome(watched: Running, engine: FakeEngine) -> None:
    engine.script.lose_after = 2
    async with watched.sdk() as sdk:
        with pytest.raises(openai.APIError):
            async for _ in await sdk.chat.completions.create(model=MODEL, messages=ASK, stream=True):
                pass

    text = (await page(watched)).text
    assert value(text, "leeward_requests_total", outcome="upstream_lost") == 1
    assert value(text, "gen_ai_server_request_duration_seconds_count", error_type="upstream_lost") == 1
    assert value(text, "gen_ai_server_time_to_first_token_seconds_count") is None
    assert value(text, "leeward_usage_source_total", source="continuous") == 1


async def test_the_queue_and_the_open_records_are_seen_while_requests_wait(
    tmp_path: Path, ledger: Ledger, engine: FakeEngine
) -> None:
    engine.script.tokens, engine.script.gap_s = 1_000, 0.01
    async with gateway_of(ledger, tmp_path, QueueLimits(slots=1), metrics=ACCESS) as running:
        async with running.http() as http:
            body = {"model": MODEL, "messages": ASK, "stream": True}
            asking = [asyncio.create_task(http.post(CHAT, json=body)) for _ in range(3)]
            for _ in range(500):
                text = (await page(running)).text
                if value(text, "leeward_queue_waiting") == 2 and engine.generated:
                    break
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

        assert value(text, "leeward_queue_slots") == value(text, "leeward_queue_running") == 1
        assert (value(text, "leeward_queue_waiting_bytes") or 0) > 100
        assert value(text, "leeward_requests_in_flight") == value(text, "leeward_ledger_unsettled_records") == 1
        for _ in range(500):
            left = value((await page(running)).text, "leeward_refusals_total", reason="caller-left")
            if left == 2:
                break
        assert left == 2


async def test_ledger_engine_and_build_are_told(watched: Running, engine: FakeEngine) -> None:
    engine.script.metrics = (
        "# TYPE vllm:spec_decode_num_draft_tokens_total counter\n"
        'vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 60.0\n'
        'vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 45.0\n'
        'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25\n'
        'vllm:request_success_total{engine="0"} 9.0\n'
    )

    text = (await page(watched)).text
    assert value(text, "leeward_build_info", model=MODEL) == 1
    assert value(text, "leeward_ledger_admits") == 1
    assert value(text, "leeward_ledger_writer_backlog") == value(text, "leeward_ledger_unsettled_records") == 0
    assert (value(text, "leeward_ledger_disk_free_bytes") or 0) > 0
    assert value(text, "leeward_ledger_disk_reserve_bytes") == 64 * 1024 * 1024
    assert value(text, "leeward_engine_up") == 1
    assert value(text, "leeward_engine_drafted_tokens_total") == 60
    assert value(text, "leeward_engine_accepted_tokens_total") == 45
    assert value(text, "leeward_engine_kv_cache_usage_ratio") == 0.25
    assert "request_success" not in text


async def test_a_silent_engine_is_down_and_says_nothing(watched: Running, engine: FakeEngine) -> None:
    await engine.stop()

    text = (await page(watched)).text

    assert value(text, "leeward_engine_up") == 0
    assert value(text, "leeward_engine_kv_cache_usage_ratio") is None


async def test_neither_an_api_key_nor_nothing_opens_the_page(watched: Running) -> None:
    with_a_key = await page(watched, watched.ledger.secret)
    async with httpx.AsyncClient(base_url=watched.url, verify=watched.tls.client_context()) as http:
        without = await http.get("/metrics")
    async with watched.http(MONITORING) as http:
        asked = await http.post(CHAT, json={"model": MODEL, "messages": ASK})

    assert (with_a_key.status_code, without.status_code) == (401, 401)
    assert "leeward_build_info" not in with_a_key.text + without.text
    assert asked.status_code == 401


async def test_the_token_is_good_in_the_named_networks_only(tmp_path: Path, ledger: Ledger, engine: FakeEngine) -> None:
    assert engine.seen == []
    elsewhere = MetricsAccess(token_sha256=ACCESS.token_sha256, networks=("10.1.0.0/24",))
    async with gateway_of(ledger, tmp_path, metrics=elsewhere) as running:
        assert (await page(running)).status_code == 401


async def test_a_site_that_names_no_token_has_no_page(gateway: Running) -> None:
    answer = await page(gateway)

    assert answer.status_code == 404
    assert "leeward_build_info" not in answer.text


@pytest.mark.parametrize("stream", [True, False])
async def test_image_tokens_are_counted_and_recorded_where_the_engine_tells(
    watched: Running, engine: FakeEngine, *, stream: bool
) -> None:
    async with watched.http() as http:
        await http.post(CHAT, json={"model": MODEL, "messages": ASK, "stream": stream})
        engine.script.image_tokens = 7
        await http.post(CHAT, json={"model": MODEL, "messages": ASK, "stream": stream})

    assert [record.usage.image_tokens for record in watched.ledger.records()] == [None, 7]
    assert value((await page(watched)).text, "leeward_tokens_total", team="research", kind="image") == 7
