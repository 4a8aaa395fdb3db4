"""A request is found again, by our id and by its caller's, in answer, ledger, engine and log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from appliance.entrypoints.gateway.tracing import Phases, SlowLimits
from tests.api.gateway.conftest import Ledger, Running, gateway_of
from tests.support.fake_engine import MODEL, FakeEngine

CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


async def test_a_callers_id_comes_back_and_stands_beside_ours_in_the_ledger(
    gateway: Running, engine: FakeEngine
) -> None:
    async with gateway.http() as http:
        first = await http.post(CHAT, json=BODY, headers={"x-request-id": "job-7.step_2"})
        again = await http.post(CHAT, json=BODY | {"stream": True}, headers={"x-request-id": "job-7.step_2"})

    records = gateway.ledger.records()
    assert [first.headers["x-request-id"], again.headers["x-request-id"]] == ["job-7.step_2"] * 2
    assert [record.caller_request_id for record in records] == ["job-7.step_2"] * 2
    ours = [record.request_id for record in records]
    assert len(set(ours)) == 2
    assert [first.headers["x-leeward-request-id"], again.headers["x-leeward-request-id"]] == ours
    assert [seen.request_id for seen in engine.seen] == ours


async def test_without_an_id_of_the_callers_ours_stands_for_both(gateway: Running) -> None:
    async with gateway.http() as http:
        answer = await http.post(CHAT, json=BODY)

    (record,) = gateway.ledger.records()
    assert answer.headers["x-request-id"] == answer.headers["x-leeward-request-id"] == record.request_id
    assert record.caller_request_id is None


@pytest.mark.parametrize("wrong", ["", "a b", "a" * 65, "\xe9tude", "x\ty", '"quoted"', "a/../b"])
async def test_an_id_that_is_not_well_formed_is_not_taken(gateway: Running, engine: FakeEngine, wrong: str) -> None:
    async with gateway.http() as http:
        answer = await http.post(CHAT, json=BODY, headers={"x-request-id": wrong.encode("latin-1")})

    (record,) = gateway.ledger.records()
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == record.request_id == engine.seen[0].request_id
    assert record.caller_request_id is None


async def test_a_refusal_bears_the_callers_id_too(gateway: Running) -> None:
    async with gateway.http() as http:
        with capture_logs() as lines:
            answer = await http.post(CHAT, json=BODY | {"n": 99}, headers={"x-request-id": "job-8"})

    (line,) = [line for line in lines if line["event"] == "request_refused"]
    assert answer.headers["x-request-id"] == line["caller_request_id"] == "job-8"
    assert answer.headers["x-leeward-request-id"] == line["request_id"]
    assert gateway.ledger.records() == []


async def test_a_slow_request_is_logged_with_its_phases_and_no_text(
    tmp_path: Path, ledger: Ledger, engine: FakeEngine
) -> None:
    engine.script.first_gap_s = 0.3
    limits = SlowLimits(start_s=0.2, whole_s=60.0)
    async with gateway_of(ledger, tmp_path, slow=limits) as running, running.http() as http:
        with capture_logs() as lines:
            await http.post(CHAT, json=BODY | {"stream": True}, headers={"x-request-id": "job-9"})
            await http.post(CHAT, json=BODY)

    (line,) = [line for line in lines if line["event"] == "request_slow"]
    (record, _) = ledger.records()
    assert (line["request_id"], line["caller_request_id"]) == (record.request_id, "job-9")
    assert line["engine"] == "engine"
    spans = {name: line[name] for name in ("read_s", "queue_s", "admission_s", "connect_s", "engine_first_byte_s")}
    assert sum(spans.values()) + line["engine_first_token_s"] + line["answer_s"] == pytest.approx(
        line["duration_s"], abs=0.001
    )
    assert line["engine_first_byte_s"] + line["engine_first_token_s"] >= 0.29
    assert "Hello" not in json.dumps(lines, default=str)
    assert "word" not in json.dumps(lines, default=str)


def test_the_last_phase_that_was_reached_goes_on_to_the_end() -> None:
    waited = Phases(arrived=1.0, judged=1.5, ended=4.0)
    whole = Phases(arrived=1.0, judged=1.5, granted=2.0, admitted=2.5, asked=3.0, answered=7.0, ended=8.0)

    assert waited.spans() == {"read_s": 0.5, "queue_s": 2.5}
    assert whole.spans()["engine_first_byte_s"] == 4.0
    assert whole.spans()["answer_s"] == 1.0
    assert "engine_first_token_s" not in whole.spans()
