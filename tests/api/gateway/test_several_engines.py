"""Several engines behind one gateway: who gets a request, and what is seen when one of them fails."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from structlog.testing import capture_logs

from appliance.adapters.host.engine_board import EngineBoard
from appliance.domain.errors import ConfigInvalid
from appliance.domain.usage import UsageOutcome, UsageState
from appliance.entrypoints.engine_door import EngineDoor, door_context
from appliance.entrypoints.gateway import application
from appliance.entrypoints.gateway import engines as engines_module
from appliance.entrypoints.gateway.engines import EnginePlace, place_of
from appliance.entrypoints.gateway.upstream import tls_door, unix_door
from appliance.gateway_settings import EngineSettings
from tests.api.gateway.conftest import Ledger, Running, gateway_of
from tests.api.gateway.test_metrics import ACCESS, page, value
from tests.support.certificates import make_loopback_tls
from tests.support.fake_engine import MODEL, FakeEngine

CHAT = "/v1/chat/completions"


def asking(prompt: str = "Hello", *, stream: bool = False) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": stream}


class Hung(asyncio.Protocol):
    """Takes requests and never says anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    gateway: Running
    one: FakeEngine
    two: FakeEngine
    folder: Path

    @property
    def drained(self) -> Path:
        return self.folder / "drained"

    def requests(self) -> tuple[int, int]:
        return len(self.one.seen), len(self.two.seen)

    def favourite(self) -> tuple[FakeEngine, FakeEngine]:
        """Return the engine that has had a request, and the other."""
        return (self.one, self.two) if self.one.seen else (self.two, self.one)

    async def metric(self, name: str, engine: str | None = None) -> float | None:
        text = (await page(self.gateway)).text
        return value(text, name, **({} if engine is None else {"engine": engine}))


@asynccontextmanager
async def site_of(ledger: Ledger, folder: Path) -> AsyncIterator[Site]:
    one, two = FakeEngine(), FakeEngine()
    await one.start(folder / "one.sock")
    await two.start(folder / "two.sock")
    places = tuple(EnginePlace(name=name, door=unix_door(folder / f"{name}.sock"), slots=8) for name in ("one", "two"))
    async with gateway_of(
        ledger, folder, metrics=ACCESS, engines=places, drained=folder / "drained", standings=folder / "told.json"
    ) as running:
        yield Site(gateway=running, one=one, two=two, folder=folder)
    await one.stop()
    await two.stop()


@pytest.fixture
async def site(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(engines_module, "LOOK_EACH_S", 0.05)
    async with site_of(ledger, tmp_path) as running:
        yield running


async def seen_by(site: Site, name: str, wanted: float, engine: str | None = None) -> None:
    for _ in range(500):
        if await site.metric(name, engine) == wanted:
            return
    raise AssertionError(f"{name} never was {wanted}")


async def test_a_conversation_stays_with_one_engine_and_load_spreads(site: Site) -> None:
    async with site.gateway.http() as http:
        talk = asking()
        for _ in range(6):
            answer = await http.post(CHAT, json=talk)
            said = answer.json()["choices"][0]["message"]
            talk["messages"] += [said, {"role": "user", "content": "and?"}]
        assert sorted(site.requests()) == [0, 6]

        for engine in (site.one, site.two):
            engine.script.first_gap_s = 0.3
        answers = await asyncio.gather(*(http.post(CHAT, json=asking(), timeout=30) for _ in range(12)))

    assert {answer.status_code for answer in answers} == {200}
    assert min(site.requests()) >= 4
    assert await site.metric("leeward_engine_in_flight", "one") == 0


async def test_a_request_goes_to_another_engine_while_none_has_had_a_byte_of_it(site: Site) -> None:
    async with site.gateway.http() as http:
        await http.post(CHAT, json=asking())
        favourite, other = site.favourite()
        await favourite.stop()
        (site.folder / ("one.sock" if favourite is site.one else "two.sock")).unlink(missing_ok=True)
        answers = [await http.post(CHAT, json=asking()) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert (len(favourite.seen), len(other.seen)) == (1, 3)
    assert [record.outcome for record in site.gateway.ledger.records()] == ["completed"] * 4


async def test_an_engine_that_dies_in_a_stream_ends_it_and_the_request_is_not_repeated(site: Site) -> None:
    for engine in (site.one, site.two):
        engine.script.lose_after = 2
    async with site.gateway.sdk() as sdk:
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in await sdk.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True
            ):
                pass

    assert sorted(site.requests()) == [0, 1]
    (record,) = site.gateway.ledger.records()
    assert (record.state, record.outcome) == (UsageState.PARTIAL, UsageOutcome.UPSTREAM_LOST)
    assert record.usage.completion_tokens == 2
    assert await site.metric("leeward_engine_failures_total") == 1
    assert await site.metric("leeward_engine_retries_total") == 0


async def test_an_engine_that_loses_requests_is_spared_and_the_other_takes_them(site: Site) -> None:
    async with site.gateway.http() as http:
        await http.post(CHAT, json=asking())
        favourite, other = site.favourite()
        favourite.script.lose_after = 1
        answers = [await http.post(CHAT, json=asking()) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [502, 502, 502, 200, 200, 200]
    assert (len(favourite.seen), len(other.seen)) == (4, 3)
    name = "one" if favourite is site.one else "two"
    assert await site.metric("leeward_engine_breaker_open", name) == 1
    assert await site.metric("leeward_engine_up", name) == 1


async def test_what_an_engine_refuses_or_fails_on_does_not_take_it_from_others(site: Site) -> None:
    for engine in (site.one, site.two):
        engine.script.refuse_with = 500
    async with site.gateway.http() as http:
        answers = [await http.post(CHAT, json=asking()) for _ in range(6)]

    assert {answer.status_code for answer in answers} == {502}
    assert sorted(site.requests()) == [0, 6]
    assert await site.metric("leeward_engine_breaker_open") == 0


async def test_without_an_engine_the_answer_is_503_with_retry_after_until_one_is_back(site: Site) -> None:
    for engine in (site.one, site.two):
        await engine.stop()
    async with site.gateway.http() as http:
        gone = await http.post(CHAT, json=asking())
        again = await http.post(CHAT, json=asking())
        await site.two.start(site.folder / "two.sock")
        back = await http.post(CHAT, json=asking())

    assert (gone.status_code, again.status_code, back.status_code) == (503, 503, 200)
    assert int(gone.headers["retry-after"]) > 0
    assert site.requests() == (0, 1)


async def test_a_drained_engine_finishes_what_it_has_and_gets_nothing_until_it_may_again(site: Site) -> None:
    for engine in (site.one, site.two):
        engine.script.tokens, engine.script.gap_s = 20, 0.02
    async with site.gateway.http() as http:
        running = asyncio.create_task(http.post(CHAT, json=asking(stream=True), timeout=30))
        for _ in range(500):
            await asyncio.sleep(0.01)
            if any(site.requests()):
                break
        favourite, other = site.favourite()
        name = "one" if favourite is site.one else "two"
        site.drained.mkdir()
        (site.drained / name).touch()
        await seen_by(site, "leeward_engine_drained", 1, name)
        assert await site.metric("leeward_queue_slots") == 8
        elsewhere = await http.post(CHAT, json=asking(), timeout=30)

        assert (await running).text.endswith("data: [DONE]\n\n")
        assert favourite.seen[0].finished
        assert (elsewhere.status_code, len(favourite.seen), len(other.seen)) == (200, 1, 1)

        (site.drained / name).unlink()
        await seen_by(site, "leeward_engine_drained", 0)
        told = EngineBoard(drained=site.drained, standings=site.folder / "told.json").standings()
        assert told is not None
        assert [(one.name, one.is_up, one.in_flight) for one in told] == [("one", True, 0), ("two", True, 0)]
        await http.post(CHAT, json=asking(), timeout=30)
    assert len(favourite.seen) == 2


async def test_an_engine_that_hangs_is_taken_out_and_its_requests_end(
    tmp_path: Path, ledger: Ledger, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_module, "LOOK_EACH_S", 0.05)
    monkeypatch.setattr("appliance.entrypoints.gateway.upstream._ASIDE_S", 0.1)
    monkeypatch.setattr("appliance.entrypoints.gateway.exchange.SILENCE_OF_DOWN_S", 0.5)
    listening = await asyncio.get_running_loop().create_unix_server(Hung, tmp_path / "hung.sock")
    places = (
        EnginePlace(name="hung", door=unix_door(tmp_path / "hung.sock"), slots=8),
        EnginePlace(name="well", door=unix_door(tmp_path / "engine.sock"), slots=8),
    )
    async with gateway_of(ledger, tmp_path, metrics=ACCESS, engines=places) as running:
        async with running.http() as http:
            answers = await asyncio.gather(*(http.post(CHAT, json=asking(str(n)), timeout=30) for n in range(10)))
            late = [await http.post(CHAT, json=asking(str(n))) for n in range(10)]
        text = (await page(running)).text
        assert value(text, "leeward_engine_up", engine="hung") == 0
        assert value(text, "leeward_engine_up", engine="well") == 1
        assert value(text, "leeward_engine_retries_total") == 0

    lost = [answer for answer in answers if answer.status_code == 502]
    assert 1 <= len(lost) < 10
    assert {answer.status_code for answer in (*answers, *late)} == {200, 502}
    assert {answer.status_code for answer in late} == {200}
    assert len(engine.seen) == 20 - len(lost)
    assert [one.outcome for one in ledger.records()].count("upstream_error") == len(lost)
    listening.close()


@pytest.fixture
async def far(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[int]:
    """Open a door before the engine, as on another node, for callers named localhost; return its port."""
    assert engine.generated == 0
    make_identities(tmp_path)
    door = EngineDoor(tmp_path / "engine.sock", callers=frozenset({"localhost"}))
    server = await door.listen("127.0.0.1", 0, door_context(tmp_path))
    yield server.sockets[0].getsockname()[1]
    server.close()
    door.close()
    await asyncio.sleep(0.05)
    assert door.open_callers == set()


def make_identities(folder: Path) -> None:
    make_loopback_tls(folder)
    for end in ("crt", "key"):
        (folder / f"client.{end}").write_bytes((folder / f"server.{end}").read_bytes())


@asynccontextmanager
async def gateway_before(place: EnginePlace, ledger: Ledger, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    own = folder / "own"
    own.mkdir(exist_ok=True)
    async with gateway_of(ledger, own, engines=(place,)) as running, running.http() as http:
        yield http


def far_engine(port: int, folder: Path, tls_name: str = "localhost") -> EnginePlace:
    settings = EngineSettings(name="far", address="127.0.0.1", port=port, tls_name=tls_name)
    return place_of(settings, slots=8, tls=folder)


async def test_an_engine_elsewhere_is_asked_through_its_door(
    far: int, tmp_path: Path, ledger: Ledger, engine: FakeEngine
) -> None:
    async with gateway_before(far_engine(far, tmp_path), ledger, tmp_path) as http:
        whole = await http.post(CHAT, json=asking())
        stream = await http.post(CHAT, json=asking("Long " * 100_000, stream=True))

    assert (whole.status_code, len(engine.seen)) == (200, 2)
    assert stream.text.endswith("data: [DONE]\n\n")
    assert [record.outcome for record in ledger.records()] == ["completed", "completed"]


async def test_who_leaves_is_gone_behind_the_door_too(
    far: int, tmp_path: Path, ledger: Ledger, engine: FakeEngine
) -> None:
    engine.script.tokens, engine.script.gap_s = 500, 0.02
    async with gateway_before(far_engine(far, tmp_path), ledger, tmp_path) as http:
        async with http.stream("POST", CHAT, json=asking(stream=True)) as answer:
            async for line in answer.aiter_lines():
                if "word3" in line:
                    break
        await asyncio.sleep(0.2)
        made = engine.generated
        await asyncio.sleep(0.2)

    assert 3 <= made == engine.generated < 20
    assert [record.outcome for record in ledger.records()] == ["client_closed"]


async def test_a_door_of_another_name_and_a_caller_without_a_name_are_not_trusted(
    far: int, tmp_path: Path, ledger: Ledger, engine: FakeEngine
) -> None:
    nobody = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    stranger = EnginePlace(name="far", door=tls_door("127.0.0.1", far, context=nobody, name="localhost"), slots=8)
    statuses = []
    for place in (far_engine(far, tmp_path, "llm09"), stranger):
        async with gateway_before(place, ledger, tmp_path) as http:
            statuses.append((await http.post(CHAT, json=asking())).status_code)

    assert (statuses, engine.seen) == ([503, 502], [])


async def test_a_caller_of_the_right_authority_and_another_name_is_refused(
    tmp_path: Path, ledger: Ledger, engine: FakeEngine
) -> None:
    make_identities(tmp_path)
    door = EngineDoor(tmp_path / "engine.sock", callers=frozenset({"llm01"}))
    server = await door.listen("127.0.0.1", 0, door_context(tmp_path))
    port = server.sockets[0].getsockname()[1]
    with capture_logs() as lines:
        async with gateway_before(far_engine(port, tmp_path), ledger, tmp_path) as http:
            answer = await http.post(CHAT, json=asking())
    server.close()

    assert (answer.status_code, engine.seen) == (502, [])
    assert {name for line in lines if line["event"] == "caller_refused" for name in line["names"]} == {"localhost"}


def test_an_engine_elsewhere_without_an_identity_is_named(tmp_path: Path) -> None:
    settings = EngineSettings(name="far", address="10.1.0.12")

    with pytest.raises(ConfigInvalid, match="no identity for the engine far"):
        place_of(settings, slots=8, tls=tmp_path)


async def test_health_is_good_while_one_engine_lives(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "_HEALTH_CACHE_S", 0.0)
    await site.one.stop()
    async with httpx.AsyncClient(base_url=site.gateway.url, verify=site.gateway.tls.client_context()) as http:
        one_left = await http.get("/healthz")
        await site.two.stop()
        none_left = await http.get("/healthz")

    assert (one_left.status_code, none_left.status_code) == (200, 503)


async def disturb(site: Site, dice: random.Random) -> None:
    """Let engines lose requests, go, come back, be drained and undrained, in a seeded order, for a while."""
    site.drained.mkdir()
    for _ in range(40):
        name = dice.choice(("one", "two"))
        engine = site.one if name == "one" else site.two
        act = dice.choice(("lose", "heal", "restart", "drain", "undrain"))
        if act in {"lose", "heal"}:
            engine.script.lose_after = 2 if act == "lose" else None
        elif act == "restart":
            await engine.stop()
            await asyncio.sleep(0.03)
            await engine.start(site.folder / f"{name}.sock")
        elif act == "drain":
            (site.drained / name).touch()
        else:
            (site.drained / name).unlink(missing_ok=True)
        await asyncio.sleep(0.02)


async def test_whatever_engines_do_no_request_reaches_two_and_every_token_is_recorded(site: Site) -> None:
    dice = random.Random(26)  # noqa: S311  a seeded sequence
    for engine in (site.one, site.two):
        engine.script.gap_s = 0.005
    async with site.gateway.http() as http:

        async def ask(number: int) -> int:
            await asyncio.sleep(number * 0.012)
            return (await http.post(CHAT, json=asking(str(number), stream=number % 2 == 0), timeout=30)).status_code

        disturbing = asyncio.create_task(disturb(site, dice))
        statuses = Counter(await asyncio.gather(*(ask(number) for number in range(120))))
        await disturbing

    records = {record.request_id: record for record in site.gateway.ledger.records()}
    seen = [one for engine in (site.one, site.two) for one in engine.seen]
    assert len(records) == 120
    assert max(Counter(one.request_id for one in seen).values()) == 1
    assert set(statuses) <= {200, 502, 503}
    assert statuses[200] > 40
    for record in records.values():
        mine = [one for one in seen if one.request_id == record.request_id]
        assert record.state is not UsageState.ADMITTED
        if record.outcome == UsageOutcome.COMPLETED:
            assert record.usage.completion_tokens == mine[0].generated
        if record.http_status == 503:
            assert mine == []
    assert await site.metric("leeward_requests_in_flight") == 0
    assert await site.metric("leeward_engine_in_flight") == 0
