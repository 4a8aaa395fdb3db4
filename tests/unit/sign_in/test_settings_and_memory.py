"""What the site decides about sign-in, and what the service remembers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from appliance.domain.errors import ConfigInvalid, SignInRefused
from appliance.domain.sign_in import Person, SignInMethod, sign_in_settings
from appliance.services.sign_in import Attempts, Nonces, Once

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TEAMS = """
[[teams]]
group = "CN=LLM-Research, OU=Groups,DC=site"
team = "research"
[[teams]]
group = "sales"
team = "desk"
"""


def person(*groups: str) -> Person:
    return Person(method=SignInMethod.OIDC, account="jane", groups=groups)


def test_a_group_stands_for_its_team_however_it_is_written() -> None:
    settings = sign_in_settings(TEAMS, where="x")

    assert settings.team_of(person("cn=llm-research,ou=groups,dc=site", "other"), None) == "research"
    assert settings.team_of(person("SALES", "cn=llm-research,ou=groups,dc=site"), "desk") == "desk"
    assert settings.key_hours == 8


def test_nobody_gets_a_team_that_no_group_stands_for() -> None:
    settings = sign_in_settings(TEAMS, where="x")

    for groups, wanted in (((), None), (("other",), "desk"), (("sales",), "research"), (("research",), None)):
        with pytest.raises(SignInRefused):
            settings.team_of(person(*groups), wanted)
    with pytest.raises(SignInRefused, match="desk, research"):
        settings.team_of(person("sales", "cn=llm-research,ou=groups,dc=site"), None)


@pytest.mark.parametrize(
    "text",
    [
        "key_hours = 0",
        "key_hours = 25",
        "no = 1",
        "[oidc]\nissuer = 'http://id.site'\naudience = 'a'",
        "[oidc]\nissuer = 'https://id.site'\naudience = ''",
        "[oidc]\nissuer = 'https://id.site?x=1'\naudience = 'a'",
        "[ldap]\nurl = 'ldap://dc'\nca_file = 'c'\nbase = 'b'\nbind_dn = 'd'\nbind_password_file = 'p'",
        "[ldap]\nurl='ldaps://dc'\nca_file='c'\nbase='b'\nbind_dn='d'\nbind_password_file='p'\nuser_filter='(uid=x)'",
        "[ldap]\nurl = 'ldaps://dc'\nca_file = 'c'\nbase = 'b'\nbind_dn = 'd'",
        "[[teams]]\ngroup = 'g'",
        "[",
    ],
)
def test_a_mistake_in_the_file_is_named(text: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"sign-in\.toml"):
        sign_in_settings(text, where="sign-in.toml")


def test_a_thing_is_taken_once_until_it_is_worthless() -> None:
    once, until = Once(), NOW + timedelta(minutes=5)
    once.take("a", until=until, now=NOW)
    once.take("b", until=until, now=NOW)

    with pytest.raises(SignInRefused):
        once.take("a", until=until, now=NOW + timedelta(minutes=4))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.services.sign_in.MOST_REMEMBERED", 3)
    once, names = Once(), iter("abcdefgh")
    nonces = Nonces(lambda: next(names))
    for name in "abc":
        once.take(name, until=NOW + timedelta(minutes=1), now=NOW)
    issued = [nonces.issue(NOW) for _ in range(5)]

    with pytest.raises(SignInRefused, match="at once"):
        once.take("d", until=NOW, now=NOW)
    once.take("d", until=NOW + timedelta(minutes=9), now=NOW + timedelta(minutes=2))
    assert [nonces.redeem(nonce, NOW) for nonce in issued] == [False, False, True, True, True]


def test_guessing_ends_after_five_wrong_passwords_for_a_quarter_of_an_hour() -> None:
    attempts = Attempts()
    for second in range(5):
        attempts.begin("jane", NOW + timedelta(seconds=second))

    with pytest.raises(SignInRefused, match="Too many"):
        attempts.begin("jane", NOW + timedelta(minutes=14))
    attempts.begin("john", NOW)
    attempts.begin("jane", NOW + timedelta(minutes=16))


def test_what_the_directory_could_not_answer_and_what_was_right_do_not_count() -> None:
    attempts = Attempts()
    for _ in range(9):
        attempts.begin("jane", NOW)
        attempts.forgive("jane")
    for _ in range(5):
        attempts.begin("jane", NOW)
    attempts.succeeded("jane")

    attempts.begin("jane", NOW)


def test_guessing_at_many_names_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.services.sign_in.MOST_REMEMBERED", 3)
    attempts = Attempts()
    for name in "abc":
        attempts.begin(name, NOW)

    with pytest.raises(SignInRefused):
        attempts.begin("d", NOW)
    attempts.begin("d", NOW + timedelta(minutes=16))
