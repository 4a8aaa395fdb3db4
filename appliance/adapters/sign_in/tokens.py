"""ID tokens of the site's OpenID provider (OpenID Connect Core 1.0, section 3.1.3.7; RFC 8725).

Which algorithms count is decided here, never by the token: public keys only, so neither `none` nor
a public key used as an HMAC secret can pass. Keys come from `IssuerKeys`, never from the token's
head. A token counts once.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from appliance.domain.errors import SignInRefused
from appliance.domain.sign_in import MOST_GROUPS, OidcSettings, Person, SignInMethod

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
LEEWAY_S = 60
LONGEST_LIFE_S = 24 * 3_600
_MOST_CHARACTERS = 16_384
_PARTS = 3


class Take(Protocol):
    def __call__(self, thing: str, *, until: datetime, now: datetime) -> None: ...


class TokenReader:
    """Reads tokens of one provider.

    `take` remembers what was used until a time and raises SignInRefused for it the second time;
    `redeem` says whether a nonce was handed out here and comes back for the first time; `started_at`
    is when both began to remember.
    """

    def __init__(
        self,
        settings: OidcSettings,
        *,
        keys: Callable[[object], KeySet],
        take: Take,
        redeem: Callable[[str, datetime], bool],
        started_at: datetime,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._take = take
        self._redeem = redeem
        self._started_at = started_at

    def read(self, token: str, now: datetime) -> Person:
        """Return whom a token is about, and use it up. Raises SignInRefused, SignInUnavailable."""
        kid = _kid(token)
        keys = self._keys(kid)
        try:
            decoded = jwt.decode(token, keys, algorithms=ALGORITHMS, registry=JWSRegistry(algorithms=list(ALGORITHMS)))
            self._claims(now).validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise _refused(f"The token does not hold: {error}.") from error
        claims = decoded.claims
        self._require_audience(claims)
        self._require_age(claims, now)
        person = self._person(claims)
        self._require_nonce(claims, now)
        signed = token.rpartition(".")[0]  # not the signature: an ECDSA signature has a twin that holds as well
        until = datetime.fromtimestamp(claims["exp"], UTC) + timedelta(seconds=LEEWAY_S)
        self._take(sha256(signed.encode()).hexdigest(), until=until, now=now)
        return person

    def _claims(self, now: datetime) -> JWTClaimsRegistry:
        settings = self._settings
        return JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )

    def _require_audience(self, claims: dict[str, Any]) -> None:
        """Of a token for several, or with an authorized party, this node must be the one that asked for it."""
        mine, audience = self._settings.audience, claims["aud"]
        several = isinstance(audience, list) and audience != [mine]
        if (several or "azp" in claims) and claims.get("azp") != mine:
            raise _refused("The token was made for another program.")

    def _require_age(self, claims: dict[str, Any], now: datetime) -> None:
        if claims["iat"] < int(self._started_at.timestamp()):
            raise _refused("The token is older than this sign-in service, which cannot know whether it was used.")
        if claims["exp"] - now.timestamp() > LONGEST_LIFE_S:
            raise _refused("The token holds for more than a day.")

    def _require_nonce(self, claims: dict[str, Any], now: datetime) -> None:
        if self._settings.needs_nonce:
            nonce = claims.get("nonce")
            if not isinstance(nonce, str) or not self._redeem(nonce, now):
                raise _refused("The token does not bear a nonce of this node that was not used before.")

    def _person(self, claims: dict[str, Any]) -> Person:
        account, groups = claims.get(self._settings.account_claim), claims.get(self._settings.groups_claim, [])
        if not isinstance(account, str) or not account.strip():
            raise _refused(f"The token has no {self._settings.account_claim}.")
        if not isinstance(groups, list) or len(groups) > MOST_GROUPS or not all(isinstance(g, str) for g in groups):
            raise _refused(f"The token's {self._settings.groups_claim} are no list of at most {MOST_GROUPS} names.")
        return Person(method=SignInMethod.OIDC, account=account, groups=tuple(groups))


def _kid(token: str) -> object:
    """Return which key the token names. Raises SignInRefused for what is no signed token in three parts."""
    parts = token.split(".")
    if len(token) > _MOST_CHARACTERS or len(parts) != _PARTS or not token.isascii():
        raise _refused("This is no signed token of at most 16 KiB.")
    try:
        head = json.loads(urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, RecursionError) as error:
        raise _refused("The token's head cannot be read.") from error
    return head.get("kid") if isinstance(head, dict) else None


def _refused(detail: str) -> SignInRefused:
    return SignInRefused(detail=detail, remedy="Get a new token from the site's sign-in, for this node.")
