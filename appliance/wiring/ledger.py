"""The ledger as the daemon holds it: opened when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Lock

from sqlalchemy import Engine

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlTenancyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.domain.tenancy import KeyTerms
from appliance.domain.usage import ApiKey


class LedgerDoor:
    """Opens the ledger when it is first needed, because `provision` makes it while the daemon runs.

    It is also the key register itself, for those who hold one before there is a ledger.
    """

    def __init__(self, path: Path, owner: Callable[[], tuple[int, int]]) -> None:
        self._path = path
        self._owner = owner
        self._lock = Lock()
        self._engine: Engine | None = None

    def usage(self) -> SqlUsageReader:
        """Return the reader; raises LedgerUnavailable."""
        return SqlUsageReader(self._open())

    def register(self) -> SqlKeyRegister:
        """Return the key register; raises LedgerUnavailable."""
        return SqlKeyRegister(self._open())

    def tenancy(self) -> SqlTenancyRegister:
        """Return the register of teams and quotas; raises LedgerUnavailable."""
        return SqlTenancyRegister(self._open())

    def create(self, *, name: str, team: str, at: datetime, terms: KeyTerms | None = None) -> tuple[ApiKey, str]:
        """Make a key; raises LedgerUnavailable."""
        return self.register().create(name=name, team=team, at=at, terms=terms)

    def rotate(self, key_id: str, *, at: datetime, ends_at: datetime) -> tuple[ApiKey, str]:
        """Replace a key; raises NotFound, LedgerUnavailable."""
        return self.register().rotate(key_id, at=at, ends_at=ends_at)

    def revoke(self, key_id: str, at: datetime) -> None:
        """End a key's use; raises NotFound, LedgerUnavailable."""
        self.register().revoke(key_id, at)

    def keys(self) -> list[ApiKey]:
        """Return all keys; raises LedgerUnavailable."""
        return self.register().keys()

    def make(self) -> None:
        """Make the ledger for the gateway, or bring it up to date. Raises ConfigInvalid, LedgerUnavailable."""
        uid, gid = self._owner()
        self.close()
        create_ledger(self._path, uid, gid)

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    def _open(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = open_ledger(self._path)
            return self._engine
