"""Making and opening the ledger's file.

Two processes share it: the daemon (root) writes keys, the gateway (leeward-gateway) writes usage.
SQLite in WAL mode with synchronous=FULL: what is committed survives a power cut. Run as root,
SQLite gives its `-wal` and `-shm` files the owner of the database file, so only that file's
owner has to be right from its first byte: `create_ledger` sees to it.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from appliance.domain.errors import LedgerUnavailable

BUSY_TIMEOUT_MS = 10_000
SCHEMA = "ledger_0004"
"""The newest migration's revision; a unit test holds it to that."""
_MODE = 0o640
_PROVISION = "Run `leeward provision`; it makes the ledger where it is missing and changes no record in it."


def create_ledger(path: Path, uid: int, gid: int) -> None:
    """Make the ledger, owned by `uid` and `gid` with mode 0640, or bring its schema up to date.

    Safe to run again, also after a kill at any instant: the file is empty until its schema is
    committed. Its folder must exist and let `uid` write. Raises LedgerUnavailable.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        try:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, _MODE)
        finally:
            os.close(descriptor)
        engine = open_engine(path, poolclass=NullPool)
        with engine.begin() as connection:
            _migrate(connection)
        engine.dispose()
    except (OSError, DBAPIError) as problem:
        raise LedgerUnavailable(
            detail=f"{path} could not be made or brought up to date: {problem}",
            remedy="Check the folder's owner and free space, then run `leeward provision` again.",
        ) from problem


def open_ledger(path: Path, **options: Any) -> Engine:  # noqa: ANN401  passed on to create_engine as they are
    """Open an existing ledger; raises LedgerUnavailable if it is missing or of another version."""
    if not path.is_file():
        raise LedgerUnavailable(detail=f"There is no ledger at {path}.", remedy=_PROVISION)
    engine = open_engine(path, **options)
    try:
        with engine.connect() as connection:
            reading = connection.execution_options(ledger_read=True)
            found = reading.execute(text("SELECT version_num FROM ledger_schema")).scalar_one_or_none()
    except DBAPIError as problem:
        engine.dispose()
        raise LedgerUnavailable(detail=f"{path} could not be read: {problem}", remedy=_PROVISION) from problem
    if found != SCHEMA:
        engine.dispose()
        raise LedgerUnavailable(detail=f"{path} has schema {found}, this version needs {SCHEMA}.", remedy=_PROVISION)
    return engine


def connect_ledger(path: Path) -> SqliteConnection:
    """Open an existing ledger for one thread that begins and commits by itself; raises as `open_ledger`."""
    open_ledger(path, poolclass=NullPool).dispose()
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        _configure(connection, None)
    except sqlite3.Error as problem:
        connection.close()
        raise LedgerUnavailable(detail=f"{path} could not be opened: {problem}", remedy=_PROVISION) from problem
    return connection


def open_engine(path: Path, **options: Any) -> Engine:  # noqa: ANN401  passed on to create_engine as they are
    """Make an engine on the file whose transactions take the write lock when they begin."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False}, **options)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(dbapi: SqliteConnection, _record: object) -> None:
    dbapi.isolation_level = None  # transactions are ours: see _begin
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",  # so that also INSERT OR REPLACE meets the delete triggers
        "trusted_schema = OFF",
    ):
        dbapi.execute(f"PRAGMA {pragma}").fetchall()


def _begin(connection: Connection) -> None:
    writes = not connection.get_execution_options().get("ledger_read", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: Connection) -> None:
    # Imported here: the gateway opens ledgers and makes none, and starts a fifth sooner without.
    from alembic import command  # noqa: PLC0415  as said
    from alembic.config import Config  # noqa: PLC0415  as said

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
