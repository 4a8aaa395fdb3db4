"""Which ID tokens of the site's provider count, and which attacks on them do not."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from appliance.adapters.sign_in import TokenReader
from appliance.domain.errors import SignInRefused
from appliance.domain.sign_in import MOST_GROUPS, OidcSettings, Person, SignInMethod
from appliance.services.sign_in import Nonces, Once
from tests.unit.sign_in.provider import AUDIENCE, Provider

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture
def nonces() -> Nonces:
    numbers = iter(range(100))
    return Nonces(lambda: f"nonce-{next(numbers)}")


def reader_of(provider: Provider, nonces: Nonces, *, needs_nonce: bool = False) -> TokenReader:
    settings = OidcSettings(issuer=provider.issuer, audience=AUDIENCE, needs_nonce=needs_nonce)
    return TokenReader(settings, keys=provider.key_set, take=Once().take, redeem=nonces.redeem, started_at=provider.now)


@pytest.fixture
def reader(provider: Provider, nonces: Nonces) -> TokenReader:
    return reader_of(provider, nonces)


def encoded(part: object) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_of_the_provider_says_who_it_is(provider: Provider, reader: TokenReader, algorithm: str) -> None:
    person = reader.read(provider.token(algorithm=algorithm), provider.now)

    assert person == Person(method=SignInMethod.OIDC, account="jane", groups=("cn=llm-research,ou=groups,dc=site",))


def test_a_token_without_a_signature_does_not_count(provider: Provider, reader: TokenReader) -> None:
    claims = encoded(provider.claims())
    for algorithm in ("none", "None", "NONE", ""):
        head = encoded({"alg": algorithm, "kid": "rsa-1"})
        for signature in ("", encoded(b"x")):
            with pytest.raises(SignInRefused):
                reader.read(f"{head}.{claims}.{signature}", provider.now)


def test_the_public_key_is_no_secret_to_sign_with(provider: Provider, reader: TokenReader) -> None:
    for secret in (
        provider.rsa.as_pem(private=False),
        provider.rsa.as_der(private=False),
        json.dumps(provider.rsa.as_dict(private=False)).encode(),
    ):
        signed = f"{encoded({'alg': 'HS256', 'kid': 'rsa-1'})}.{encoded(provider.claims())}"
        token = f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"
        with pytest.raises(SignInRefused):
            reader.read(token, provider.now)


def test_a_key_inside_the_token_is_not_believed(provider: Provider, reader: TokenReader) -> None:
    thief = RSAKey.generate_key(2048, {"kid": "rsa-1"})
    heads = (
        {"alg": "RS256", "kid": "rsa-1"},
        {"alg": "RS256", "kid": "thief", "jwk": thief.as_dict(private=False)},
        {"alg": "RS256", "jku": "https://127.0.0.1:9/keys"},
    )
    for head in heads:
        token = jwt.encode(head, provider.claims(), thief, algorithms=["RS256"])
        with pytest.raises(SignInRefused):
            reader.read(token, provider.now)


def test_a_changed_claim_breaks_the_signature(provider: Provider, reader: TokenReader) -> None:
    head, _, signature = provider.token().split(".")

    with pytest.raises(SignInRefused):
        reader.read(f"{head}.{encoded(provider.claims(sub='root'))}.{signature}", provider.now)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.site"},
        {"iss": "https://id.site/"},
        {"iss": None},
        {"aud": "another-program"},
        {"aud": None},
        {"aud": [AUDIENCE, "another-program"]},
        {"aud": [AUDIENCE, "another-program"], "azp": "another-program"},
        {"azp": "another-program"},
        {"sub": None},
        {"sub": ""},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1e300},
        {"iat": -1e300},
        {"iat": None},
        {"groups": "cn=llm-research,ou=groups,dc=site"},
        {"groups": [1]},
        {"groups": ["g"] * (MOST_GROUPS + 1)},
    ],
)
def test_a_token_for_another_purpose_or_without_its_claims_does_not_count(
    provider: Provider, reader: TokenReader, changes: dict[str, object]
) -> None:
    with pytest.raises(SignInRefused):
        reader.read(provider.token(**changes), provider.now)


def test_time_decides(provider: Provider, reader: TokenReader) -> None:
    seconds = int(provider.now.timestamp())

    for changes in (
        {"iat": seconds, "exp": seconds - 61},
        {"nbf": seconds + 120},
        {"iat": seconds + 120},
        {"exp": seconds + 25 * 3600},
        {"iat": seconds - 10},
    ):
        with pytest.raises(SignInRefused):
            reader.read(provider.token(**changes), provider.now)
    with pytest.raises(SignInRefused):
        reader.read(provider.token(), provider.now + timedelta(minutes=6, seconds=1))
    assert reader.read(provider.token(), provider.now + timedelta(minutes=5, seconds=30)).account == "jane"


def test_a_token_counts_once(provider: Provider, reader: TokenReader) -> None:
    token = provider.token(jti="1")
    reader.read(token, provider.now)

    with pytest.raises(SignInRefused, match="used before"):
        reader.read(token, provider.now)
    assert reader.read(provider.token(jti="2"), provider.now).account == "jane"


def test_the_twin_of_a_signature_makes_no_second_token(provider: Provider, reader: TokenReader) -> None:
    token = provider.token(algorithm="ES256")
    signed, _, signature = token.rpartition(".")
    raw = urlsafe_b64decode(signature + "==")
    twin = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    reader.read(token, provider.now)

    with pytest.raises(SignInRefused, match="used before"):
        reader.read(f"{signed}.{encoded(twin)}", provider.now)


def test_a_refused_token_is_not_used_up(provider: Provider, reader: TokenReader) -> None:
    token = provider.token(jti="3")
    with pytest.raises(SignInRefused):
        reader.read(token, provider.now + timedelta(hours=1))

    assert reader.read(token, provider.now).account == "jane"


def test_a_nonce_comes_back_once_and_in_time(provider: Provider, nonces: Nonces) -> None:
    reader = reader_of(provider, nonces, needs_nonce=True)
    mine, late = nonces.issue(provider.now), nonces.issue(provider.now - timedelta(minutes=11))

    assert reader.read(provider.token(nonce=mine), provider.now).account == "jane"
    for nonce in (mine, late, "made-up", None, 7):
        with pytest.raises(SignInRefused, match="nonce"):
            reader.read(provider.token(nonce=nonce, jti=str(nonce)), provider.now)


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a.b.c", "a.b.c.d.e", "é.b.c", "x" * 20_000, "[]..", "e30.e30.", "." * 2]
)
def test_what_is_no_token_is_refused(provider: Provider, reader: TokenReader, text: str) -> None:
    with pytest.raises(SignInRefused):
        reader.read(text, provider.now)


def test_another_claim_can_be_the_account(provider: Provider, nonces: Nonces) -> None:
    settings = OidcSettings(issuer=provider.issuer, audience=AUDIENCE, account_claim="email", groups_claim="roles")
    reader = TokenReader(
        settings, keys=provider.key_set, take=Once().take, redeem=nonces.redeem, started_at=provider.now
    )

    person = reader.read(provider.token(email="j@site", roles=["a"]), provider.now)

    assert (person.account, person.groups) == ("j@site", ("a",))
    with pytest.raises(SignInRefused, match="no email"):
        reader.read(provider.token(), provider.now)
