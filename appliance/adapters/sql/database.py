"""The file `leeward.db`: how it is opened, migrated and locked for one write at a time.

Write-ahead log with `synchronous=FULL`: what was committed survives a power cut. A writing
transaction begins IMMEDIATE, so that reading a sequence number and storing its successor cannot be
interleaved. Every exception of SQLAlchemy leaves here as a LeewardError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from appliance.domain.errors import LeewardError, StateUnusable, StoreFull

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 10.0


class Database:
    """One SQLite file. `open` brings its schema up to date; use from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers = create_engine(
            URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_TIMEOUT_S}
        )
        self._writers = self._readers.execution_options(leeward_begin="BEGIN IMMEDIATE")
        event.listen(self._readers, "connect", _configure)
        event.listen(self._readers, "begin", _begin)

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open the file, create it (0600) where it is missing, and migrate it in one transaction.

        Raises StateUnusable where it is damaged or newer than this appliance, StoreFull where there is no room.
        """
        _create_private(path)
        database = cls(path)
        database.migrate("head")
        return database

    def migrate(self, revision: str) -> None:
        """Upgrade the schema to `revision`; either all of it or nothing."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with self.write() as connection:
            present = MigrationContext.configure(connection).get_current_revision()
            if present is not None and present not in known:
                raise StateUnusable(
                    detail=f"{self.path} has schema {present}; this appliance knows {', '.join(sorted(known))}.",
                    remedy="Start the newer appliance that wrote it, or restore the backup made before that upgrade.",
                )
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one unchanging state."""
        with self._translated(), self._readers.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give the only writing connection; commits at the end, rolls back on an exception.

        IntegrityError passes through: what a broken constraint means, the caller knows.
        """
        with self._translated(), self._writers.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all pooled connections."""
        self._readers.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise _explained(self.path, error) from error


def _explained(path: Path, error: DBAPIError) -> LeewardError:
    said = str(error.orig)
    if "full" in said:
        return StoreFull(
            detail=f"{path} could not grow: {said}.",
            remedy=f"Free space on the file system of {path.parent}; nothing was stored by half.",
        )
    return StateUnusable(
        detail=f"{path}: {said}.",
        remedy="Look at the disk (`journalctl -k`); restore the newest backup where the file is damaged.",
    )


def _create_private(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StateUnusable(
            detail=f"{path}: {error.strerror}.",
            remedy=f"Make {path.parent} a writable folder of root, then start the daemon again.",
        ) from error


def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401  the driver's own connection
    connection.isolation_level = None  # sqlite3 must not begin transactions by itself
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "recursive_triggers=ON",  # so that INSERT OR REPLACE meets the triggers too
        "trusted_schema=OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("leeward_begin", "BEGIN"))
