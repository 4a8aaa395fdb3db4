"""API keys: made and revoked by the daemon, looked up by the gateway.

A secret is `lwd_` and 256 random bits in base64url. The ledger keeps its SHA-256 and its first
characters; a stretched hash would add nothing to 256 bits of entropy. The look-up goes by hash,
so what its timing could tell is a hash's beginning, not a secret's.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, bindparam, insert, select, update
from sqlalchemy.exc import DBAPIError

from appliance.adapters.sql_ledger.schema import api_key, from_microseconds, to_microseconds
from appliance.adapters.sql_ledger.tenancy import current_teams, ensure_team
from appliance.domain.errors import LedgerUnavailable, NotFound
from appliance.domain.tenancy import HolderKind, KeyTerms, Priority
from appliance.domain.usage import ApiKey

SECRET_START = "lwd_"  # noqa: S105  the beginning that every secret shares, not a secret
_SHOWN_CHARACTERS = 8
_CACHE_SIZE = 4_096


class SqlKeyRegister:
    """`ports.KeyRegister` on the ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self, *, name: str, team: str, at: datetime, terms: KeyTerms | None = None, replaces: str | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key; a team that is not known yet becomes one of the site, with standard priority."""
        with self._engine.begin() as connection:
            return _create(connection, name=name, team=team, at=at, terms=terms or KeyTerms(), replaces=replaces)

    def rotate(self, key_id: str, *, at: datetime, ends_at: datetime) -> tuple[ApiKey, str]:
        """Make a key with the same terms; the old one ends at `ends_at` at the latest.

        Both or neither. Raises NotFound if there is no such key or its use has ended.
        """
        with self._engine.begin() as connection:
            old = _find(connection, key_id)
            if not old.is_valid(at):
                raise NotFound(
                    detail=f"The use of {key_id} has ended; there is nothing to replace.",
                    remedy="Make a new key with `leeward key create`.",
                )
            terms = KeyTerms(
                holder=old.holder,
                holder_kind=old.holder_kind,
                expires_at=old.expires_at,
                models=old.models,
                networks=old.networks,
            )
            made = _create(connection, name=old.name, team=old.team, at=at, terms=terms, replaces=key_id)
            _end(connection, old, ends_at, now=at)
        return made

    def revoke(self, key_id: str, at: datetime) -> None:
        """Revoke a key. Raises NotFound if there is no such key; revoking twice changes nothing."""
        with self._engine.begin() as connection:
            _end(connection, _find(connection, key_id), at, now=at)

    def keys(self) -> list[ApiKey]:
        query = _keys().order_by(api_key.c.created_at_us, api_key.c.key_id)
        with self._engine.connect() as connection:
            return [_key(row) for row in connection.execute(query)]


class KeyLookup:
    """Finds the valid key of a secret; an answer is at most `cache_s` seconds old.

    Only keys that were found are remembered, so that guessing fills no memory. Not thread-safe.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        cache_s: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._engine = engine.execution_options(ledger_read=True)
        self._cache_s = cache_s
        self._monotonic = monotonic
        self._now = now or (lambda: datetime.now(UTC))
        self._found: dict[str, tuple[ApiKey, float]] = {}

    def find(self, secret: str) -> ApiKey | None:
        """Return the key whose secret this is, unless there is none, it is revoked or has expired.

        Raises LedgerUnavailable.
        """
        digest = _digest(secret)
        now_s = self._monotonic()
        remembered = self._found.get(digest)
        if remembered is not None and now_s < remembered[1]:
            return remembered[0]
        try:
            with self._engine.connect() as connection:
                row = connection.execute(_BY_DIGEST, {"digest": digest}).one_or_none()
        except DBAPIError as problem:
            raise LedgerUnavailable(
                detail=f"API keys could not be read: {problem.orig}",
                remedy="Check the ledger's disk and owner, then restart leeward-gateway.",
            ) from problem
        self._found.pop(digest, None)
        key = None if row is None else _key(row)
        if key is None or not key.is_valid(self._now()):
            return None
        if len(self._found) >= _CACHE_SIZE:
            self._found.clear()
        self._found[digest] = (key, now_s + self._cache_s)
        return key


def _create(
    connection: Connection, *, name: str, team: str, at: datetime, terms: KeyTerms, replaces: str | None
) -> tuple[ApiKey, str]:
    secret = SECRET_START + secrets.token_urlsafe(32)
    belongs = ensure_team(connection, team, at)
    key = ApiKey(
        key_id=f"key_{secrets.token_hex(8)}",
        name=name,
        team=team,
        prefix=secret[:_SHOWN_CHARACTERS],
        created_at=at,
        revoked_at=None,
        entity=belongs.entity,
        priority=belongs.priority,
        holder=terms.holder,
        holder_kind=terms.holder_kind,
        expires_at=terms.expires_at,
        models=terms.models,
        networks=terms.networks,
        replaces=replaces,
    )
    row = insert(api_key).values(
        key_id=key.key_id,
        name=name,
        team=team,
        prefix=key.prefix,
        secret_sha256=_digest(secret),
        created_at_us=to_microseconds(at),
        holder=key.holder,
        holder_kind=None if key.holder_kind is None else key.holder_kind.value,
        expires_at_us=to_microseconds(key.expires_at),
        models="\n".join(key.models),
        networks="\n".join(key.networks),
        replaces=replaces,
    )
    connection.execute(row)
    return key, secret


def _find(connection: Connection, key_id: str) -> ApiKey:
    row = connection.execute(_keys().where(api_key.c.key_id == key_id)).one_or_none()
    if row is None:
        raise NotFound(
            detail=f"There is no API key with the id {key_id}.",
            remedy="List the keys and take the id from there.",
        )
    return _key(row)


def _end(connection: Connection, key: ApiKey, at: datetime, *, now: datetime) -> None:
    """End a key's use at a time, unless it ends before anyway."""
    if key.revoked_at is None or now < key.revoked_at > at:
        mark = update(api_key).where(api_key.c.key_id == key.key_id).values(revoked_at_us=to_microseconds(at))
        connection.execute(mark)


def _keys() -> Select[Any]:
    teams = current_teams().subquery()
    return select(api_key, teams.c.entity, teams.c.priority).join(teams, teams.c.team == api_key.c.team)


_BY_DIGEST = _keys().where(api_key.c.secret_sha256 == bindparam("digest"))


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
        entity=row.entity,
        priority=Priority(row.priority),
        holder=row.holder,
        holder_kind=None if row.holder_kind is None else HolderKind(row.holder_kind),
        expires_at=from_microseconds(row.expires_at_us),
        models=tuple(row.models.split("\n")) if row.models else (),
        networks=tuple(row.networks.split("\n")) if row.networks else (),
        replaces=row.replaces,
    )
