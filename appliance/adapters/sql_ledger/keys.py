"""API keys: made and revoked by the daemon, looked up by the gateway.

A secret is `lwd_` and 256 random bits in base64url. The ledger keeps its SHA-256 and its first
characters; a stretched hash would add nothing to 256 bits of entropy. The look-up goes by hash,
so what its timing could tell is a hash's beginning, not a secret's.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Engine, Row, insert, select, update
from sqlalchemy.exc import DBAPIError

from appliance.adapters.sql_ledger.schema import api_key, from_microseconds, to_microseconds
from appliance.domain.errors import LedgerUnavailable, NotFound
from appliance.domain.usage import ApiKey

SECRET_START = "lwd_"  # noqa: S105  the beginning that every secret shares, not a secret
_SHOWN_CHARACTERS = 8
_CACHE_SIZE = 4_096


class SqlKeyRegister:
    """`ports.KeyRegister` on the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, *, name: str, team: str, at: datetime) -> tuple[ApiKey, str]:
        secret = SECRET_START + secrets.token_urlsafe(32)
        key = ApiKey(
            key_id=f"key_{secrets.token_hex(8)}",
            name=name,
            team=team,
            prefix=secret[:_SHOWN_CHARACTERS],
            created_at=at,
            revoked_at=None,
        )
        row = insert(api_key).values(
            key_id=key.key_id,
            name=name,
            team=team,
            prefix=key.prefix,
            secret_sha256=_digest(secret),
            created_at_us=to_microseconds(at),
        )
        with self._engine.begin() as connection:
            connection.execute(row)
        return key, secret

    def revoke(self, key_id: str, at: datetime) -> None:
        """Revoke a key. Raises NotFound if there is no such key; revoking twice changes nothing."""
        known = select(api_key.c.revoked_at_us).where(api_key.c.key_id == key_id)
        mark = update(api_key).where(api_key.c.key_id == key_id).values(revoked_at_us=to_microseconds(at))
        with self._engine.begin() as connection:
            row = connection.execute(known).one_or_none()
            if row is None:
                raise NotFound(
                    detail=f"There is no API key with the id {key_id}.",
                    remedy="List the keys and take the id from there.",
                )
            if row.revoked_at_us is None:
                connection.execute(mark)

    def keys(self) -> list[ApiKey]:
        query = select(api_key).order_by(api_key.c.created_at_us, api_key.c.key_id)
        with self._engine.connect() as connection:
            return [_key(row) for row in connection.execute(query)]


class KeyLookup:
    """Finds the valid key of a secret; an answer is at most `cache_s` seconds old.

    Only keys that were found are remembered, so that guessing fills no memory. Not thread-safe.
    """

    def __init__(
        self, engine: Engine, *, cache_s: float = 0.5, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine.execution_options(ledger_read=True)
        self._cache_s = cache_s
        self._monotonic = monotonic
        self._found: dict[str, tuple[ApiKey, float]] = {}

    def find(self, secret: str) -> ApiKey | None:
        """Return the key whose secret this is, unless there is none or it is revoked.

        Raises LedgerUnavailable.
        """
        digest = _digest(secret)
        now = self._monotonic()
        remembered = self._found.get(digest)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        query = select(api_key).where(api_key.c.secret_sha256 == digest)
        try:
            with self._engine.connect() as connection:
                row = connection.execute(query).one_or_none()
        except DBAPIError as problem:
            raise LedgerUnavailable(
                detail=f"API keys could not be read: {problem.orig}",
                remedy="Check the ledger's disk and owner, then restart leeward-gateway.",
            ) from problem
        self._found.pop(digest, None)
        if row is None or row.revoked_at_us is not None:
            return None
        if len(self._found) >= _CACHE_SIZE:
            self._found.clear()
        key = _key(row)
        self._found[digest] = (key, now + self._cache_s)
        return key


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _key(row: Row[Any]) -> ApiKey:
    created_at = from_microseconds(row.created_at_us)
    assert created_at is not None  # noqa: S101  the column is NOT NULL
    return ApiKey(
        key_id=row.key_id,
        name=row.name,
        team=row.team,
        prefix=row.prefix,
        created_at=created_at,
        revoked_at=from_microseconds(row.revoked_at_us),
    )
