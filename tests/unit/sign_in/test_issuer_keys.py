"""The provider's public keys: from whom they are taken, and from whom not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.adapters.sign_in import IssuerKeys
from appliance.domain.errors import SignInUnavailable
from appliance.domain.sign_in import OidcSettings
from tests.support.certificates import make_loopback_tls
from tests.unit.sign_in.provider import AUDIENCE, Provider, served


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    with served(tmp_path) as (provider, _):
        yield provider


@pytest.fixture
def settings(provider: Provider, tmp_path: Path) -> OidcSettings:
    return OidcSettings(issuer=provider.issuer, audience=AUDIENCE, ca_file=str(tmp_path / "ca.crt"))


def test_keys_are_found_by_the_providers_description_and_asked_for_once(
    provider: Provider, settings: OidcSettings
) -> None:
    now = [0.0]
    keys = IssuerKeys(settings, monotonic=lambda: now[0])

    assert {key.kid for key in keys.for_token("rsa-1").keys} == {"rsa-1", "ec-1"}
    keys.for_token("ec-1")
    keys.for_token("unknown")
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]
    now[0] = 61
    keys.for_token("ec-1")
    assert len(provider.asked) == 2
    keys.for_token("unknown")
    keys.for_token("unknown")
    assert len(provider.asked) == 4
    now[0] = 61 + 3_601
    keys.for_token("ec-1")
    assert len(provider.asked) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.site"},
        {"jwks_uri": "https://127.0.0.1:9/keys"},
        {"jwks_uri": "http://127.0.0.1/keys"},
        {"jwks_uri": None},
    ],
)
def test_a_description_of_something_else_is_not_followed(
    provider: Provider, settings: OidcSettings, changes: dict[str, object]
) -> None:
    provider.description |= changes

    with pytest.raises(SignInUnavailable):
        IssuerKeys(settings).for_token("rsa-1")
    assert provider.asked == ["/.well-known/openid-configuration"]


def test_a_redirect_is_not_followed(provider: Provider, settings: OidcSettings) -> None:
    provider.description |= {"jwks_uri": f"{provider.issuer}/moved"}

    with pytest.raises(SignInUnavailable, match="302"):
        IssuerKeys(settings).for_token("rsa-1")
    assert "/keys" not in provider.asked


def test_a_provider_for_which_nobody_vouches_is_not_asked(
    provider: Provider, settings: OidcSettings, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    authority = make_loopback_tls(other).authority

    with pytest.raises(SignInUnavailable, match="certificate verify failed"):
        IssuerKeys(replace(settings, ca_file=str(authority))).for_token("rsa-1")
    assert provider.asked == []


def test_keys_can_come_from_a_file_without_any_network(
    provider: Provider, settings: OidcSettings, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(provider.public))

    keys = IssuerKeys(replace(settings, keys_file=str(file)))

    assert {key.kid for key in keys.for_token("rsa-1").keys} == {"rsa-1", "ec-1"}
    assert provider.asked == []
    for content in ("", "[]", "{}", '{"keys": []}', '{"keys": [{"kty": "RSA"}]}'):
        file.write_text(content)
        with pytest.raises(SignInUnavailable):
            keys.for_token("rsa-1")


def test_a_symmetric_key_is_never_among_them(settings: OidcSettings, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}]}))

    with pytest.raises(SignInUnavailable, match="no public key"):
        IssuerKeys(replace(settings, keys_file=str(file))).for_token("s")
