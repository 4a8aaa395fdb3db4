"""What the sign-in service itself refuses, before anybody is asked, and what it never repeats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import click.testing
import httpx
import pytest
from fastapi import FastAPI

from appliance.domain.errors import SignInRefused, SignInUnavailable
from appliance.domain.sign_in import LdapSettings, OidcSettings, SignInSettings
from appliance.entrypoints.sign_in import main
from appliance.entrypoints.sign_in.application import create_app
from appliance.services.sign_in import MOST_ATTEMPTS

NOBODY = Path("/nonexistent/management.sock")
OIDC = OidcSettings(issuer="https://id.site", audience="leeward", keys_file="/nonexistent")
LDAP = LdapSettings(url="ldaps://127.0.0.1:1", ca_file="/no", base="b", bind_dn="d", bind_password_file="/no")  # noqa: S106  a path


async def post(app: FastAPI, body: object, path: str = "/v1/sign-in") -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        return await http.post(path, json=body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"token": "a", "account": "b", "password": "secret"},
        {"account": "b"},
        {"password": "secret"},
        {"token": ["secret"]},
        {"token": "secret" * 4_000},
        {"account": "b", "password": ["secret"]},
        {"token": "a.b.c", "team": 7},
        {"token": "secret", "more": 1},
        ["secret"],
        "secret",
    ],
)
async def test_what_is_no_sign_in_is_refused_without_repeating_it(body: object) -> None:
    answer = await post(create_app(SignInSettings(oidc=OIDC, ldap=LDAP), management=NOBODY), body)

    assert (answer.status_code, answer.json()["code"]) == (422, "request-invalid")
    assert "secret" not in answer.text


async def test_a_way_that_the_site_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        await post(create_app(SignInSettings(oidc=OIDC), management=NOBODY), {"account": "j", "password": "hunter2"}),
        await post(create_app(SignInSettings(ldap=LDAP), management=NOBODY), {"token": "hunter2"}),
    ]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert "hunter2" not in "".join(answer.text for answer in answers) + "".join(capsys.readouterr())


async def test_nonces_are_handed_out_one_by_one() -> None:
    app = create_app(SignInSettings(oidc=OIDC), management=NOBODY)

    told = [(await post(app, None, "/v1/sign-in/nonce")).json()["nonce"] for _ in range(3)]

    assert len(set(told)) == 3


async def test_the_directory_is_not_asked_after_five_wrong_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(_: object, account: str, password: str, *, before: Callable[[str], None]) -> None:
        before(f"uid={account.casefold()},dc=site")
        asked.append(account + password)
        raise SignInRefused(detail="no", remedy="no")

    monkeypatch.setattr("appliance.adapters.sign_in.Directory.person", refuse)
    app = create_app(SignInSettings(ldap=LDAP), management=NOBODY)
    tries = [post(app, {"account": name, "password": str(n)}) for n, name in enumerate(["jane", "JANE"] * 8)]

    answers = await asyncio.gather(*tries)

    assert {answer.status_code for answer in answers} == {403}
    assert len(asked) == MOST_ATTEMPTS


async def test_a_directory_that_is_away_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, account: str, _password: str, *, before: Callable[[str], None]) -> None:
        before(account)
        raise SignInUnavailable(detail="away", remedy="wait")

    monkeypatch.setattr("appliance.adapters.sign_in.Directory.person", fail)
    app = create_app(SignInSettings(ldap=LDAP), management=NOBODY)

    answers = [await post(app, {"account": "jane", "password": "x"}) for _ in range(MOST_ATTEMPTS + 2)]

    assert {answer.json()["code"] for answer in answers} == {"sign-in-unavailable"}


def test_the_service_does_not_start_without_a_way_to_sign_in(tmp_path: Path) -> None:
    run = click.testing.CliRunner().invoke(main, ["--root", str(tmp_path)])

    assert run.exit_code == 2
    assert not (tmp_path / "run").exists()
