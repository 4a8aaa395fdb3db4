"""Quotas, scopes, turns and repetitions, as a tenant's program meets them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import openai
import pytest

from appliance.adapters.sql_ledger import SqlTenancyRegister, open_ledger
from appliance.domain.quotas import Quota, QuotaKind, Scope
from appliance.domain.tenancy import KeyTerms, Priority
from appliance.domain.usage import UsageOutcome
from appliance.services.queueing import QueueLimits
from tests.api.gateway.conftest import Ledger, Running, gateway_of
from tests.support.fake_engine import MODEL, FakeEngine

CHAT = "/v1/chat/completions"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
COST = 11 + 5  # prompt and completion of the stand-in engine


def limit(ledger: Ledger, kind: QuotaKind, amount: int, scope: Scope = Scope.TEAM, subject: str = "research") -> None:
    engine = open_ledger(ledger.path)
    quota = Quota(scope=scope, subject=subject, kind=kind, amount=amount, set_at=datetime.now(UTC))
    SqlTenancyRegister(engine).set_quota(quota)
    engine.dispose()


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come to that in 20 s")


async def until_answered(http: httpx.AsyncClient, status: int) -> None:
    for _ in range(200):
        if (await http.post(CHAT, json=ASK)).status_code == status:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"no answer in 10 s was {status}")


# -- quotas


async def test_a_quota_refuses_with_openais_words_and_the_engine_hears_nothing(
    ledger: Ledger, engine: FakeEngine, tmp_path: Path
) -> None:
    limit(ledger, QuotaKind.REQUESTS_PER_MONTH, 1)
    limit(ledger, QuotaKind.TOKENS_PER_MONTH, 1_000, Scope.ENTITY, "site")
    async with gateway_of(ledger, tmp_path) as gateway, gateway.http() as http:
        first = await http.post(CHAT, json=ASK)
        second = await http.post(CHAT, json=ASK)
        async with gateway.sdk() as sdk:
            with pytest.raises(openai.RateLimitError, match="1 requests/month of team research"):
                await sdk.chat.completions.create(**ASK)  # type: ignore[call-overload]

    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert 800 < int(first.headers["x-ratelimit-remaining-tokens"]) < 1_000
    assert first.headers["x-ratelimit-reset-tokens"].endswith("s")
    assert 0 < int(second.headers["retry-after"]) <= 31 * 86_400
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    error = second.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert len(engine.seen) == len(ledger.records()) == 1


async def test_a_messages_client_is_refused_in_its_own_form(ledger: Ledger, engine: FakeEngine, tmp_path: Path) -> None:
    limit(ledger, QuotaKind.REQUESTS_PER_DAY, 0)
    async with gateway_of(ledger, tmp_path) as gateway, gateway.http() as http:
        answer = await http.post("/v1/messages", json=ASK, headers={"anthropic-version": "2023-06-01"})

    assert answer.status_code == 429
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert engine.seen == []


async def test_what_was_used_counts_after_a_restart(ledger: Ledger, engine: FakeEngine, tmp_path: Path) -> None:
    limit(ledger, QuotaKind.TOKENS_PER_MONTH, 2 * COST + 10)
    statuses = []
    for _ in range(3):
        async with gateway_of(ledger, tmp_path) as gateway, gateway.http() as http:
            statuses.append((await http.post(CHAT, json=ASK | {"max_tokens": 1})).status_code)
            statuses.append((await http.post(CHAT, json=ASK | {"max_tokens": 1})).status_code)

    used = sum((record.usage.prompt_tokens or 0) + (record.usage.completion_tokens or 0) for record in ledger.records())
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert len(engine.seen) == statuses.count(200) == len(ledger.records())
    assert used <= 2 * COST + 10


async def test_a_quota_set_while_the_gateway_runs_holds_and_a_lifted_one_does_not(
    ledger: Ledger, engine: FakeEngine, tmp_path: Path
) -> None:
    async with gateway_of(ledger, tmp_path) as gateway, gateway.http() as http:
        assert (await http.post(CHAT, json=ASK)).status_code == 200
        limit(ledger, QuotaKind.REQUESTS_PER_DAY, 1, Scope.KEY, ledger.key.key_id)
        await until_answered(http, 429)
        seen = len(engine.seen)
        assert (await http.post(CHAT, json=ASK)).status_code == 429
        assert len(engine.seen) == seen

        database = open_ledger(ledger.path)
        SqlTenancyRegister(database).lift_quota(
            Scope.KEY, ledger.key.key_id, QuotaKind.REQUESTS_PER_DAY, datetime.now(UTC)
        )
        database.dispose()
        await until_answered(http, 200)


async def test_who_leaves_before_the_count_is_known_pays_what_was_reserved(
    ledger: Ledger, engine: FakeEngine, tmp_path: Path
) -> None:
    limit(ledger, QuotaKind.TOKENS_PER_DAY, 1_000)
    engine.script.first_gap_s = 5.0
    async with gateway_of(ledger, tmp_path) as gateway:
        async with gateway.http() as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post(CHAT, json=ASK | {"max_tokens": 900}, timeout=0.3)
        await until(lambda: ledger.records() and ledger.records()[0].outcome == UsageOutcome.CLIENT_CLOSED)
        async with gateway.http() as http:
            answer = await http.post(CHAT, json=ASK | {"max_tokens": 900})

    assert answer.status_code == 429
    (charged,) = _column(ledger, "charged_tokens")
    assert 900 < charged < 1_000


async def test_no_request_costs_a_query_but_the_writers_own(
    ledger: Ledger, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(ledger, QuotaKind.TOKENS_PER_DAY, 1_000_000)
    asked: list[str] = []
    async with gateway_of(ledger, tmp_path) as gateway, gateway.http() as http:
        await http.post(CHAT, json=ASK)
        monkeypatch.setattr(SqlTenancyRegister, "_read", lambda _, query: asked.append(str(query)) or [(1,), (1,)])
        began = asyncio.get_running_loop().time()
        statuses = [(await http.post(CHAT, json=ASK)).status_code for _ in range(50)]
        took = asyncio.get_running_loop().time() - began

    assert statuses == [200] * 50
    assert len(asked) <= 2 * (took + 2)
    assert len(engine.seen) == 51


# -- scope of a key


@pytest.mark.parametrize(
    ("terms", "status", "code"),
    [
        (KeyTerms(networks=("10.0.0.0/8",)), 403, "network-not-allowed"),
        (KeyTerms(models=("another-model",)), 403, "model-not-allowed"),
        (KeyTerms(expires_at=datetime.now(UTC)), 401, "invalid_api_key"),
        (KeyTerms(networks=("127.0.0.0/8",), models=(MODEL,), expires_at=datetime(2100, 1, 1, tzinfo=UTC)), 200, None),
    ],
    ids=["network", "model", "expired", "within"],
)
async def test_a_key_is_good_for_what_it_was_made_for(
    gateway: Running, engine: FakeEngine, terms: KeyTerms, status: int, code: str | None
) -> None:
    _, secret = gateway.ledger.keys.create(name="n", team="t", at=datetime.now(UTC), terms=terms)
    async with gateway.http(secret) as http:
        answer = await http.post(CHAT, json=ASK)

    assert answer.status_code == status
    assert code is None or answer.json()["error"]["code"] == code
    assert len(engine.seen) == len(gateway.ledger.records()) == (status == 200)


async def test_a_replaced_key_and_its_successor_both_work_until_the_first_ends(
    gateway: Running, engine: FakeEngine
) -> None:
    keys, now = gateway.ledger.keys, datetime.now(UTC)
    new, secret = keys.rotate(gateway.ledger.key.key_id, at=now, ends_at=now + timedelta(hours=1))
    async with gateway.http() as old_http, gateway.http(secret) as new_http:
        assert (await old_http.post(CHAT, json=ASK)).status_code == 200
        assert (await new_http.post(CHAT, json=ASK)).status_code == 200
        keys.revoke(gateway.ledger.key.key_id, datetime.now(UTC))
        await asyncio.sleep(0.6)
        assert (await old_http.post(CHAT, json=ASK)).status_code == 401
        assert (await new_http.post(CHAT, json=ASK)).status_code == 200

    assert [record.key_id for record in gateway.ledger.records()][1:] == [new.key_id] * 2
    assert len(engine.seen) == 3


# -- turns


async def test_one_teams_flood_does_not_hold_up_another_team(
    ledger: Ledger, engine: FakeEngine, tmp_path: Path
) -> None:
    _, other = ledger.keys.create(name="n", team="sales", at=datetime.now(UTC))
    engine.script.first_gap_s = 0.2
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_of(ledger, tmp_path, QueueLimits(slots=2)))
        flood_http = await stack.enter_async_context(gateway.http())
        other_http = await stack.enter_async_context(gateway.http(other))
        flood = [asyncio.create_task(flood_http.post(CHAT, json=ASK, timeout=60)) for _ in range(20)]
        await until(lambda: len(engine.seen) == 2)

        answer = await other_http.post(CHAT, json=ASK, timeout=60)

        waiting = sum(not task.done() for task in flood)
        answers = await asyncio.gather(*flood)
    assert answer.status_code == 200
    assert waiting >= 14
    assert {one.status_code for one in answers} == {200}
    assert len(engine.seen) == len(ledger.records()) == 21


async def test_full_lines_say_503_and_when_to_come_again(ledger: Ledger, engine: FakeEngine, tmp_path: Path) -> None:
    engine.script.first_gap_s = 0.5
    limits = QueueLimits(slots=1, waiting=2)
    async with gateway_of(ledger, tmp_path, limits) as gateway, gateway.http() as http:
        answers = await asyncio.gather(*(http.post(CHAT, json=ASK, timeout=60) for _ in range(6)))

    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 3
    assert {answer.headers["retry-after"] for answer in refused} == {"5"}
    assert {answer.json()["error"]["code"] for answer in refused} == {"busy"}
    assert len(engine.seen) == len(ledger.records()) == 3


async def test_who_leaves_the_line_is_never_asked_for(ledger: Ledger, engine: FakeEngine, tmp_path: Path) -> None:
    engine.script.first_gap_s = 0.6
    async with gateway_of(ledger, tmp_path, QueueLimits(slots=1)) as gateway, gateway.http() as http:
        first = asyncio.create_task(http.post(CHAT, json=ASK, timeout=60))
        await until(lambda: engine.seen)
        async with gateway.http() as impatient:
            with pytest.raises(httpx.ReadTimeout):
                await impatient.post(CHAT, json=ASK, timeout=0.2)
        assert (await first).status_code == 200
        assert (await http.post(CHAT, json=ASK, timeout=60)).status_code == 200

    assert len(engine.seen) == len(ledger.records()) == 2


async def test_a_team_of_a_higher_class_gets_the_larger_share(
    ledger: Ledger, engine: FakeEngine, tmp_path: Path
) -> None:
    database = open_ledger(ledger.path)
    for team, priority in (("research", Priority.BATCH), ("desk", Priority.INTERACTIVE)):
        SqlTenancyRegister(database).set_team(team, entity="site", priority=priority, at=datetime.now(UTC))
    database.dispose()
    _, desk = ledger.keys.create(name="n", team="desk", at=datetime.now(UTC))
    engine.script.first_gap_s = 0.1
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_of(ledger, tmp_path, QueueLimits(slots=3)))
        batch_http = await stack.enter_async_context(gateway.http())
        desk_http = await stack.enter_async_context(gateway.http(desk))
        batch = [asyncio.create_task(batch_http.post(CHAT, json=ASK, timeout=60)) for _ in range(12)]
        await until(lambda: len(engine.seen) == 3)
        await asyncio.gather(*(desk_http.post(CHAT, json=ASK, timeout=60) for _ in range(12)))
        left = sum(not task.done() for task in batch)
        await asyncio.gather(*batch)

    assert left >= 3
    assert len(ledger.records()) == 24


async def test_two_teams_never_share_a_part_of_the_prefix_cache(gateway: Running, engine: FakeEngine) -> None:
    _, same = gateway.ledger.keys.create(name="n", team="research", at=datetime.now(UTC))
    _, other = gateway.ledger.keys.create(name="n", team="sales", at=datetime.now(UTC))
    for secret in (None, same, other):
        async with gateway.http(secret) as http:
            assert (await http.post(CHAT, json=ASK)).status_code == 200

    first, again, another = (seen.body["cache_salt"] for seen in engine.seen)
    assert first == again != another


# -- repetitions


async def test_a_repetition_of_an_answered_request_is_told_so_and_costs_nothing(
    gateway: Running, engine: FakeEngine
) -> None:
    once = {"Idempotency-Key": "order-17"}
    async with gateway.http() as http:
        first = await http.post(CHAT, json=ASK, headers=once)
        again = await http.post(CHAT, json=ASK, headers=once)
        other = await http.post(CHAT, json=ASK | {"max_tokens": 4}, headers=once)
        fresh = await http.post(CHAT, json=ASK, headers={"Idempotency-Key": "order-18"})

    assert (first.status_code, again.status_code, other.status_code, fresh.status_code) == (200, 409, 422, 200)
    assert again.json()["error"]["code"] == "idempotency-answered"
    assert again.headers["x-leeward-first-request-id"] == first.headers["x-request-id"]
    assert again.headers["x-should-retry"] == "false"
    assert other.json()["error"]["code"] == "idempotency-mismatch"
    assert len(engine.seen) == len(gateway.ledger.records()) == 2


async def test_a_repetition_while_the_first_is_under_way_is_a_conflict(gateway: Running, engine: FakeEngine) -> None:
    engine.script.first_gap_s = 0.5
    once = {"Idempotency-Key": "order-17"}
    async with gateway.http() as http:
        first = asyncio.create_task(http.post(CHAT, json=ASK, headers=once))
        await until(lambda: engine.seen)
        again = await http.post(CHAT, json=ASK, headers=once)
        assert (await first).status_code == 200

    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency-running")
    assert again.headers["retry-after"]
    assert len(engine.seen) == len(gateway.ledger.records()) == 1


async def test_a_request_that_failed_may_be_repeated_and_one_that_was_answered_not_even_after_a_restart(
    ledger: Ledger, engine: FakeEngine, tmp_path: Path
) -> None:
    once = {"Idempotency-Key": "order-17"}
    statuses = []
    for refuse_with in (500, None, None):
        engine.script.refuse_with = refuse_with
        async with gateway_of(ledger, tmp_path) as gateway, gateway.http() as http:
            statuses.append((await http.post(CHAT, json=ASK, headers=once)).status_code)

    assert statuses == [502, 200, 409]
    assert [record.outcome for record in ledger.records()] == ["upstream_error", "completed"]


async def test_an_idempotency_key_belongs_to_the_key_that_sent_it_and_neither_is_stored(
    gateway: Running, engine: FakeEngine
) -> None:
    _, other = gateway.ledger.keys.create(name="n", team="sales", at=datetime.now(UTC))
    once = {"Idempotency-Key": "order-of-jane-doe"}
    for secret in (None, other):
        async with gateway.http(secret) as http:
            assert (await http.post(CHAT, json=ASK, headers=once)).status_code == 200
            empty = await http.post(CHAT, json=ASK, headers={"Idempotency-Key": "x" * 256})
            assert empty.status_code == 400

    assert len(engine.seen) == 2
    assert len(set(_column(gateway.ledger, "idempotency_mac"))) == len(set(_column(gateway.ledger, "body_mac"))) == 2
    stored = b"".join(file.read_bytes() for file in gateway.ledger.path.parent.glob("ledger.db*"))
    assert b"jane" not in stored
    assert json.dumps("hi").encode() not in stored


def _column(ledger: Ledger, name: str) -> list[int]:
    with sqlite3.connect(ledger.path) as connection:
        rows = connection.execute(f"SELECT {name} FROM usage_record ORDER BY seq").fetchall()  # noqa: S608  our own names
    connection.close()
    return [row[0] for row in rows]
