"""leeward.db: migrations, append-only tables, the journal, the audit log, the licence register."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from appliance.adapters.clock import SystemClock
from appliance.adapters.sql import Database, SqlAuditLog, SqlJournal, SqlLicenseRegister
from appliance.adapters.sql.tables import metadata
from appliance.domain.audit import first_broken
from appliance.domain.errors import NotFound, OperationConflict, StateUnusable
from appliance.domain.events import LogLine, OperationStarted, OperationSucceeded
from appliance.domain.license import Attestation, LicenseTerms, RevenueBand
from appliance.domain.operation import STEPS, Actor, OperationId, OperationKind, OperationRequest

AT = datetime(2026, 11, 24, 8, tzinfo=UTC)
REQUEST = OperationRequest(kind=OperationKind.IMPORT, parameters={"medium": "/mnt/usb"})
ACTOR = Actor(name="j.doe", uid=1000)
FIRST = OperationId("01-first")
SECOND = OperationId("02-second")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "leeward.db")
    yield database
    database.close()


def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_database_of_every_version_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path, revision: str) -> None:
    old = Database(tmp_path / "leeward.db")
    old.migrate(revision)
    SqlJournal(old).create(FIRST, REQUEST, ACTOR, AT)
    old.close()

    database = Database.open(tmp_path / "leeward.db")

    assert SqlJournal(database).unfinished() == (FIRST, REQUEST, ACTOR)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Database.open(tmp_path / "leeward.db").close()
    with sqlite3.connect(tmp_path / "leeward.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()

    with pytest.raises(StateUnusable, match="schema 9999"):
        Database.open(tmp_path / "leeward.db")

    raw = sqlite3.connect(tmp_path / "leeward.db")
    assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    raw.close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "leeward.db"
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE attestation (x)")  # in the way of the last table of the last revision
    raw.commit()
    raw.close()

    with pytest.raises(StateUnusable, match="attestation"):
        Database.open(path)

    raw = sqlite3.connect(path)
    assert raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("attestation",)]
    raw.close()


def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "leeward.db"
    path.write_bytes(b"not a database at all" * 100)

    with pytest.raises(StateUnusable, match=r"leeward\.db"):
        Database.open(path)

    assert path.read_bytes().startswith(b"not a database")


def test_only_root_can_read_the_file(database: Database) -> None:
    assert database.path.stat().st_mode & 0o777 == 0o600


def test_what_is_committed_survives_a_power_cut(database: Database) -> None:
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


@pytest.mark.parametrize("table", ["event", "audit_entry", "license_terms", "attestation"])
@pytest.mark.parametrize("change", ["UPDATE {} SET rowid = 99", "DELETE FROM {}"])
def test_records_can_neither_be_changed_nor_deleted(database: Database, table: str, change: str) -> None:
    _one_row_everywhere(database)
    statement = change.format(table).replace("event SET rowid", "event SET seq")
    raw = sqlite3.connect(database.path)

    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
        raw.execute(statement)

    assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)  # noqa: S608  names of this test
    raw.close()


def _one_row_everywhere(database: Database) -> None:
    journal = SqlJournal(database)
    journal.create(FIRST, REQUEST, ACTOR, AT)
    journal.append(FIRST, LogLine(text="x"), AT)
    SqlAuditLog(database, SystemClock()).append(actor="a", action="b", object_="c", outcome="d", details={})
    _terms(SqlLicenseRegister(database))


def _terms(register: SqlLicenseRegister) -> tuple[LicenseTerms, Attestation]:
    terms = LicenseTerms(
        spdx_id="LicenseRef-Modified-MIT",
        applies_to="target",
        text_sha256="ab" * 32,
        threshold_usd_monthly=20_000_000,
        release="r",
    )
    made = Attestation(
        use_month="2026-11",
        band=RevenueBand.UNDER_HALF,
        legal_entity="ACME",
        signatory="C. Fo",
        role="CFO",
        made_at=AT,
        recorded_by="j.doe",
    )
    register.add_terms(terms)
    register.add_attestation(made)
    return terms, made


def test_records_of_an_operation_have_no_gaps_and_read_on_from_any_place(database: Database) -> None:
    journal = SqlJournal(database)
    journal.create(FIRST, REQUEST, ACTOR, AT)
    started = OperationStarted(kind=REQUEST.kind, actor="j.doe", node="llm01", steps=STEPS[REQUEST.kind])

    written = [journal.append(FIRST, event, AT + timedelta(microseconds=1)) for event in (started, LogLine(text="é"))]

    assert [record.seq for record in written] == [1, 2]
    assert journal.records(FIRST) == written
    assert journal.records(FIRST, after=1) == written[1:]
    assert journal.records(FIRST, limit=1) == written[:1]
    assert journal.records(SECOND) == []


def test_a_second_operation_is_refused_until_the_first_has_ended(database: Database) -> None:
    journal = SqlJournal(database)
    journal.create(FIRST, REQUEST, ACTOR, AT)

    with pytest.raises(OperationConflict):
        journal.create(SECOND, REQUEST, ACTOR, AT)

    assert [found[0] for found in journal.operations()] == [FIRST]
    journal.append(FIRST, OperationSucceeded(summary="done"), AT)
    assert journal.unfinished() is None
    journal.create(SECOND, REQUEST, ACTOR, AT + timedelta(seconds=1))
    assert [found[0] for found in journal.operations()] == [SECOND, FIRST]


def test_an_event_of_an_unknown_operation_is_refused(database: Database) -> None:
    with pytest.raises(NotFound, match="02-second"):
        SqlJournal(database).append(SECOND, LogLine(text="x"), AT)


def test_an_event_of_a_newer_appliance_is_named_instead_of_misread(database: Database) -> None:
    journal = SqlJournal(database)
    journal.create(FIRST, REQUEST, ACTOR, AT)
    raw = sqlite3.connect(database.path)
    raw.execute("INSERT INTO event VALUES (?, 1, ?, ?)", (FIRST, AT.isoformat(), '{"type": "FluxReversed"}'))
    raw.commit()
    raw.close()

    with pytest.raises(StateUnusable, match="FluxReversed"):
        journal.records(FIRST)


def test_audit_entries_of_many_threads_make_one_chain(database: Database) -> None:
    log = SqlAuditLog(database, SystemClock())

    def write(name: str) -> None:
        for place in range(10):
            log.append(actor=name, action="act", object_=str(place), outcome="ok", details={"ü": "ö"})

    threads = [Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    entries = log.entries()
    assert log.count() == len(entries) == 40
    assert first_broken(entries) is None
    assert log.head() == entries[-1]
    assert log.entries(after=38) == entries[38:]


def test_an_entry_changed_behind_the_triggers_breaks_the_chain(database: Database) -> None:
    log = SqlAuditLog(database, SystemClock())
    for place in range(3):
        log.append(actor="a", action="act", object_=str(place), outcome="ok", details={})
    raw = sqlite3.connect(database.path)
    raw.execute("DROP TRIGGER audit_entry_is_never_changed")
    raw.execute("UPDATE audit_entry SET outcome = 'forged' WHERE seq = 2")
    raw.commit()
    raw.close()

    assert first_broken(log.entries()) == 2


def test_the_licence_register_keeps_each_statement_once(database: Database) -> None:
    register = SqlLicenseRegister(database)

    terms, made = _terms(register)
    _terms(register)

    assert register.terms() == (terms,)
    assert register.attestations() == (made,)
