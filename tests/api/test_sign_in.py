"""A person, the site's OpenID provider, the gateway, the sign-in service and the daemon: a key, and no other way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, open_ledger
from appliance.client import ApplianceClient
from appliance.config import Paths
from appliance.domain.errors import NotPermitted, SignInRefused
from appliance.domain.sign_in import Person, SignInMethod
from tests.api.conftest import CHECKOUT, DaemonProcess
from tests.api.gateway.conftest import Ledger, Running, gateway_of
from tests.support.fake_engine import MODEL, FakeEngine
from tests.unit.sign_in.provider import AUDIENCE, Provider, served

SERVICE = "from appliance.entrypoints.sign_in import main; main()"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
JANE = Person(method=SignInMethod.OIDC, account="jane", groups=("cn=llm-research,ou=groups,dc=site",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    provider: Provider
    gateway: Running
    daemon: DaemonProcess
    service: subprocess.Popen[bytes]
    log: Path

    async def sign_in(self, body: object, path: str = "/v1/sign-in") -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.gateway.url, verify=self.gateway.tls.client_context()) as http:
            return await http.post(path, json=body)

    async def acts(self) -> list[tuple[str, str, str]]:
        async with ApplianceClient(self.daemon.socket) as client:
            return [(entry.actor, entry.action, entry.outcome) for entry in await client.audit(0, 100)]


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    (tmp_path / "provider").mkdir()
    with served(tmp_path / "provider") as (provider, _):
        yield provider


@pytest.fixture
def ledger(daemon: DaemonProcess) -> Iterator[Ledger]:
    path = Paths(root=daemon.root).ledger
    database = open_ledger(path)
    keys = SqlKeyRegister(database)
    key, secret = keys.create(name="first", team="first", at=datetime.now(UTC))
    yield Ledger(path=path, keys=keys, usage=SqlUsageReader(database), key=key, secret=secret)
    database.dispose()


def start_service(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, "-c", SERVICE], cwd=CHECKOUT, env=environment, stderr=output)


@pytest.fixture
async def site(daemon: DaemonProcess, provider: Provider, ledger: Ledger, tmp_path: Path) -> AsyncIterator[Site]:
    paths, log = Paths(root=daemon.root), tmp_path / "service.log"
    paths.sign_in_file.parent.mkdir(parents=True, exist_ok=True)
    paths.sign_in_file.write_text(
        f'[oidc]\nissuer = "{provider.issuer}"\naudience = "{AUDIENCE}"\nca_file = "{tmp_path}/provider/ca.crt"\n'
        '[[teams]]\ngroup = "cn=llm-research,ou=groups,dc=site"\nteam = "research"\n'
    )
    environment = os.environ | {"LEEWARD_ROOT": str(daemon.root)}
    engine = FakeEngine()
    await engine.start(tmp_path / "engine.sock")
    service = start_service(environment, log)
    try:
        daemon.until(paths.sign_in_socket.exists, 30)
        async with gateway_of(ledger, tmp_path, sign_in=paths.sign_in_socket) as gateway:
            provider.now = datetime.now(UTC) + timedelta(seconds=1)
            yield Site(provider=provider, gateway=gateway, daemon=daemon, service=service, log=log)
    finally:
        service.kill()
        service.wait()
        await engine.stop()


async def test_a_token_of_the_site_becomes_a_key_that_works_for_a_day_and_is_on_record(site: Site) -> None:
    token = site.provider.token()

    answer = await site.sign_in({"token": token})

    told = answer.json()
    assert answer.status_code == 201, (answer.text, site.log.read_text())
    assert answer.headers["cache-control"] == "no-store"
    assert timedelta(hours=7) < datetime.fromisoformat(told["expires_at"]) - datetime.now(UTC) <= timedelta(hours=8)
    async with site.gateway.http(told["secret"]) as http:
        assert (await http.post("/v1/chat/completions", json=ASK)).status_code == 200
    assert [record.team for record in site.gateway.ledger.records()] == ["research"]
    assert await site.acts() == [("oidc:jane", "key.create", "begun"), ("oidc:jane", "key.create", "succeeded")]
    (key,) = [key for key in site.gateway.ledger.keys.keys() if key.team == "research"]  # noqa: SIM118  a register
    assert (key.holder, key.holder_kind, key.key_id) == ("jane", "person", told["key_id"])
    for secret in (token, token.split(".")[1], told["secret"]):
        assert secret not in site.log.read_text()


async def test_a_token_is_no_key_the_second_time_nor_for_strangers(site: Site) -> None:
    token = site.provider.token()
    await site.sign_in({"token": token})
    stranger, forged = site.provider.token(sub="max", groups=["others"]), Provider(issuer=site.provider.issuer).token()

    refused = [await site.sign_in({"token": each}) for each in (token, forged, "x", stranger)]

    assert [answer.status_code for answer in refused] == [403] * 4
    assert {answer.json()["code"] for answer in refused} == {"sign-in-refused"}
    assert len({answer.json()["detail"] for answer in refused[:3]}) == 1
    assert "No group of max" in refused[3].json()["detail"]
    assert (await site.acts())[2:] == [("oidc:max", "sign-in", "refused")]
    assert len(site.gateway.ledger.keys.keys()) == 2

    too_long = await site.sign_in({"token": "x" * 40_000})
    site.service.kill()
    site.service.wait()
    gone = await site.sign_in({"token": "x"})
    Paths(root=site.daemon.root).sign_in_socket.unlink()
    never = await site.sign_in({"token": "x"})
    assert [too_long.status_code, gone.status_code, never.status_code] == [413, 503, 404]
    assert gone.headers["retry-after"]
    assert "no sign-in" in never.text


async def test_only_the_services_own_account_may_bring_people(daemon: DaemonProcess) -> None:
    file = Paths(root=daemon.root).sign_in_file
    file.parent.mkdir(parents=True, exist_ok=True)
    async with ApplianceClient(daemon.socket) as client:
        with pytest.raises(SignInRefused):  # without a file nobody has a team
            await client.sign_in(JANE)
    file.write_text(f'[[teams]]\ngroup = "{JANE.groups[0]}"\nteam = "research"\n')

    for roles, account, may in (
        ("leeward-operator", "j.doe", False),
        ("", "leeward-gateway", False),
        ("", "leeward-sign-in", True),
    ):
        daemon.roles(roles.replace("leeward-", ""))
        (daemon.root / "account").write_text(account)
        async with ApplianceClient(daemon.socket) as client:
            if may:
                for _ in range(20):
                    assert (await client.sign_in(JANE)).key.team == "research"
                with pytest.raises(SignInRefused, match="20 keys"):
                    await client.sign_in(JANE)
                await client.sign_in(replace(JANE, account="joan"))
                with pytest.raises(SignInRefused):
                    await client.sign_in(JANE, team="admins")
                with pytest.raises(NotPermitted):
                    await client.create_key(team="admins", name="x")
            else:
                with pytest.raises(NotPermitted):
                    await client.sign_in(JANE)
