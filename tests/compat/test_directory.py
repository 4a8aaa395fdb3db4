"""People of a real directory: who is let in, and who is not by any trick that LDAP offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.adapters.sign_in import Directory
from appliance.domain.errors import SignInRefused, SignInUnavailable
from appliance.domain.sign_in import LdapSettings, Person, SignInMethod
from tests.compat.slapd import ADMIN, ADMIN_PASSWORD, PASSWORD, Slapd, served
from tests.support.certificates import make_loopback_tls

pytestmark = pytest.mark.node

RESEARCH = "cn=llm-research,ou=groups,dc=site"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with served(tmp_path_factory.mktemp("slapd")) as slapd:
        yield slapd


@pytest.fixture
def settings(slapd: Slapd, tmp_path: Path) -> LdapSettings:
    secret = tmp_path / "password"
    secret.write_text(f"{ADMIN_PASSWORD}\n")
    return LdapSettings(
        url=f"ldaps://127.0.0.1:{slapd.port}",
        ca_file=str(slapd.authority),
        base="dc=site",
        bind_dn=ADMIN,
        bind_password_file=str(secret),
        group_filter="(&(objectClass=groupOfNames)(member={}))",
    )


def test_a_person_with_the_right_password_comes_with_their_groups(settings: LdapSettings) -> None:
    person = Directory(settings).person("Jane", PASSWORD)

    assert person == Person(method=SignInMethod.LDAP, account="jane", groups=(RESEARCH,))


@pytest.mark.parametrize("spelling", ["jane", "JANE", " jane ", "jane  "])
def test_however_it_is_spelt_one_person_is_one_account_with_one_lock(settings: LdapSettings, spelling: str) -> None:
    told: list[str] = []

    person = Directory(settings).person(spelling, PASSWORD, before=told.append)

    assert person.account == "jane"
    assert told == ["uid=jane,ou=people,dc=site"]


def test_a_lock_is_held_before_the_password_is_tried(settings: LdapSettings) -> None:
    def locked(_: str) -> None:
        raise SignInRefused(detail="locked", remedy="wait")

    for account in ("jane", "nobody"):
        with pytest.raises(SignInRefused, match="locked"):
            Directory(settings).person(account, PASSWORD, before=locked)


def test_a_name_with_characters_of_a_filter_is_only_a_name(settings: LdapSettings) -> None:
    assert Directory(settings).person("john (temp)", PASSWORD).groups == ()


@pytest.mark.parametrize(
    ("account", "password"),
    [
        ("jane", "wrong"),
        ("jane", PASSWORD + " "),
        ("nobody", PASSWORD),
        ("bare", PASSWORD),
        ("jane", ""),
        ("", PASSWORD),
        ("", ""),
        ("jane", "\0"),
        ("jane", "x" * 2_000),
        ("j" * 200, PASSWORD),
        ("*", PASSWORD),
        ("j*", PASSWORD),
        ("jane)(uid=*", PASSWORD),
        ("*)(objectClass=*", PASSWORD),
        ("jane\\2a", PASSWORD),
        ("jane\0", PASSWORD),
        ("uid=jane,ou=people,dc=site", PASSWORD),
    ],
)
def test_nobody_else_is_let_in(settings: LdapSettings, account: str, password: str) -> None:
    with pytest.raises(SignInRefused):
        Directory(settings).person(account, password)


def test_who_exists_is_not_told(settings: LdapSettings) -> None:
    told = set()
    for account in ("jane", "nobody", "*"):
        with pytest.raises(SignInRefused) as refused:
            Directory(settings).person(account, "wrong")
        told.add((refused.value.detail, refused.value.remedy))

    assert len(told) == 1


def test_two_entries_for_one_account_are_as_good_as_none(settings: LdapSettings) -> None:
    with pytest.raises(SignInRefused):
        Directory(replace(settings, user_filter="(cn={})")).person("twin", PASSWORD)


def test_a_referral_is_not_followed(settings: LdapSettings, slapd: Slapd) -> None:
    directory = Directory(replace(settings, base="ou=elsewhere,dc=site"))

    with pytest.raises((SignInRefused, SignInUnavailable)):
        directory.person("jane", PASSWORD)
    Directory(settings).person("jane", PASSWORD)  # the whole tree's search meets the referral as well
    assert not slapd.was_referral_followed()


def test_a_directory_for_which_nobody_vouches_gets_no_password(settings: LdapSettings, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    authority = str(make_loopback_tls(other).authority)

    for wrong in (
        replace(settings, ca_file=authority),
        replace(settings, ca_file=str(tmp_path / "none")),
        replace(settings, url=settings.url.replace("127.0.0.1", "127.0.0.2")),  # which the certificate does not name
    ):
        with pytest.raises(SignInUnavailable):
            Directory(wrong).person("jane", PASSWORD)


def test_a_directory_that_is_away_or_refuses_the_node_is_no_wrong_password(
    settings: LdapSettings, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("not it")

    for wrong in (
        replace(settings, url="ldaps://127.0.0.1:1"),
        replace(settings, bind_password_file=str(other)),
        replace(settings, bind_password_file=str(tmp_path / "none")),
    ):
        with pytest.raises(SignInUnavailable):
            Directory(wrong).person("jane", PASSWORD)
