"""The public keys of the site's OpenID provider, from a file or from the provider itself.

From the provider they come by OpenID Connect Discovery 1.0, section 4: its description must name
the very issuer that was asked, and the keys must lie on the same host. No redirect is followed.
Symmetric keys are left out: with one, whoever can check a token could make one.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from appliance.domain.errors import SignInUnavailable
from appliance.domain.sign_in import OidcSettings

_PUBLIC = frozenset({"RSA", "EC", "OKP"})
_MOST_BYTES = 1024 * 1024
_TIMEOUT_S = 5.0
_HOLDS_S = 3_600.0
_PAUSE_S = 60.0
_REMEDY = "Check the provider, its certificate and [oidc] in sign-in.toml; tell the node's administrator."


class IssuerKeys:
    """Fetches and remembers the keys. Not thread-safe: two at once only ask twice."""

    def __init__(self, settings: OidcSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._known: KeySet | None = None
        self._fetched_at = float("-inf")

    def for_token(self, kid: object) -> KeySet:
        """Return the keys for a token that names this one. Raises SignInUnavailable.

        The provider is asked again after an hour, and for an unknown key at most once a minute.
        """
        if self._settings.keys_file is not None:
            return _key_set(_read_file(Path(self._settings.keys_file)), self._settings.keys_file)
        age_s = self._monotonic() - self._fetched_at
        known = self._known
        is_new = known is not None and all(key.kid != kid for key in known.keys)
        if known is None or age_s > _HOLDS_S or (is_new and age_s > _PAUSE_S):
            known = self._known = self._discover()
            self._fetched_at = self._monotonic()
        return known

    def _discover(self) -> KeySet:
        issuer = self._settings.issuer
        try:
            with httpx.Client(verify=self._trust(), timeout=_TIMEOUT_S, trust_env=False) as http:
                description = _get(http, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
                place = description.get("jwks_uri")
                if description.get("issuer") != issuer or not isinstance(place, str) or not _same_host(place, issuer):
                    raise _unavailable(
                        f"the description at {issuer} is about another issuer, or its keys lie elsewhere"
                    )
                return _key_set(_get(http, place), place)
        except (httpx.HTTPError, ValueError, OSError) as error:
            raise _unavailable(f"{issuer} could not be asked for its keys: {error}") from error

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._settings.ca_file)


def _get(http: httpx.Client, place: str) -> dict[str, Any]:
    content = bytearray()
    with http.stream("GET", place) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{place} answered {answer.status_code}")
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > _MOST_BYTES:
                raise ValueError(f"{place} answered with more than {_MOST_BYTES:,} bytes")
    return _object(bytes(content), place)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return _object(file.read(_MOST_BYTES), str(path))
    except (OSError, ValueError) as error:
        raise _unavailable(f"{path} cannot be read as a set of keys: {error}") from error


def _object(content: bytes, where: str) -> dict[str, Any]:
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError(f"{where} holds no JSON object")  # noqa: TRY004  callers treat it as content that is wrong
    return found


def _key_set(plain: dict[str, Any], where: str) -> KeySet:
    listed = plain.get("keys")
    kinds = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    public: Any = [each for each in kinds if each.get("kty") in _PUBLIC and each.get("use", "sig") == "sig"]
    if not public:
        raise _unavailable(f"{where} holds no public key for signatures")
    try:
        return KeySet.import_key_set({"keys": public})
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise _unavailable(f"{where} holds a key that cannot be read: {error}") from error


def _same_host(place: str, issuer: str) -> bool:
    there, here = urlsplit(place), urlsplit(issuer)
    return (there.scheme, there.netloc) == ("https", here.netloc)


def _unavailable(detail: str) -> SignInUnavailable:
    return SignInUnavailable(detail=f"{detail}.".replace("..", "."), remedy=_REMEDY)
