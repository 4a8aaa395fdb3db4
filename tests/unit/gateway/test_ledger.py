from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from appliance.adapters.sql_ledger import (
    KeyLookup,
    LedgerWriter,
    SqlKeyRegister,
    SqlUsageReader,
    create_ledger,
    database,
    open_ledger,
)
from appliance.domain.errors import LedgerUnavailable, NotFound
from appliance.domain.usage import (
    UNKNOWN_USAGE,
    Admission,
    ApiKey,
    Progress,
    Settlement,
    TokenUsage,
    UsageOutcome,
    UsageSource,
    UsageState,
    new_request_id,
)

NOW = datetime(2026, 11, 24, 9, 0, 0, 123456, tzinfo=UTC)
COUNTS = TokenUsage(prompt_tokens=3, completion_tokens=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    create_ledger(path, os.getuid(), os.getgid())
    return path


@pytest.fixture
def key(path: Path) -> ApiKey:
    engine = open_ledger(path)
    key, _ = SqlKeyRegister(engine).create(name="n", team="t", at=NOW)
    engine.dispose()
    return key


@pytest.fixture
def reader(path: Path) -> Iterator[SqlUsageReader]:
    engine = open_ledger(path)
    yield SqlUsageReader(engine)
    engine.dispose()


def admission(key: ApiKey) -> Admission:
    return Admission(
        request_id=new_request_id(NOW, os.urandom(10)),
        key_id=key.key_id,
        team=key.team,
        model="m",
        endpoint="/v1/chat/completions",
        stream=True,
        admitted_at=NOW,
    )


def settlement(request_id: str, tokens: int = 8) -> Settlement:
    return Settlement(
        request_id=request_id,
        state=UsageState.SETTLED,
        settled_at=NOW + timedelta(seconds=2),
        first_token_at=NOW + timedelta(seconds=1),
        http_status=200,
        outcome=UsageOutcome.COMPLETED,
        finish_reason="stop",
        usage=TokenUsage(prompt_tokens=3, completion_tokens=tokens, cached_tokens=0),
        usage_source=UsageSource.FINAL,
    )


def opened(path: Path, boot_id: str = "boot-1") -> LedgerWriter:
    writer = LedgerWriter(path, boot_id=boot_id)
    writer.open()
    return writer


def test_a_record_comes_back_as_it_was_settled(path: Path, key: ApiKey, reader: SqlUsageReader) -> None:
    writer, admitted = opened(path), admission(key)

    writer.admit(admitted).result()
    before = reader.counts()
    writer.settle(settlement(admitted.request_id)).result()
    writer.close()

    ((seq, record),) = reader.records()
    assert (seq, before, reader.counts()) == (1, (1, 1), (1, 0))
    assert (record.admitted_at, record.settled_at) == (NOW, NOW + timedelta(seconds=2))
    assert record.usage == TokenUsage(prompt_tokens=3, completion_tokens=8, cached_tokens=0, reasoning_tokens=None)
    assert reader.records(after=1) == []


def test_a_second_settlement_changes_nothing(path: Path, key: ApiKey, reader: SqlUsageReader) -> None:
    writer, admitted = opened(path), admission(key)
    writer.admit(admitted).result()

    writer.settle(settlement(admitted.request_id, tokens=8)).result()
    writer.settle(settlement(admitted.request_id, tokens=80)).result()
    running = Progress(
        request_id=admitted.request_id, first_token_at=NOW, usage=COUNTS, usage_source=UsageSource.CONTINUOUS
    )
    writer.progress([running]).result()
    writer.close()

    ((_, record),) = reader.records()
    assert record.usage.completion_tokens == 8
    assert record.state is UsageState.SETTLED


def test_a_killed_gateways_records_are_abandoned_with_their_last_counts(
    path: Path, key: ApiKey, reader: SqlUsageReader
) -> None:
    writer, counted, silent = opened(path, "boot-1"), admission(key), admission(key)
    writer.admit(counted).result()
    writer.admit(silent).result()
    running = Progress(
        request_id=counted.request_id, first_token_at=NOW, usage=COUNTS, usage_source=UsageSource.CONTINUOUS
    )
    writer.progress([running]).result()
    writer.close()

    second = LedgerWriter(path, boot_id="boot-2")
    abandoned = second.open()
    second.settle(settlement(counted.request_id, tokens=99)).result()
    second.close()

    records = {record.request_id: record for _, record in reader.records()}
    assert abandoned == 2
    assert {record.state for record in records.values()} == {UsageState.ABANDONED}
    assert {record.outcome for record in records.values()} == {"gateway_killed"}
    assert records[counted.request_id].usage == COUNTS
    assert records[counted.request_id].usage_source is UsageSource.CONTINUOUS
    assert records[silent.request_id].usage == UNKNOWN_USAGE


def test_only_one_gateway_writes_to_a_ledger(path: Path) -> None:
    writer = opened(path)

    with pytest.raises(LedgerUnavailable, match="Another gateway"):
        LedgerWriter(path, boot_id="boot-2")
    writer.close()

    opened(path, "boot-2").close()


def test_a_bad_row_fails_alone(path: Path, key: ApiKey, reader: SqlUsageReader) -> None:
    writer, twice = opened(path), admission(key)
    good = [admission(key) for _ in range(5)]

    futures = [writer.admit(one) for one in (good[0], twice, good[1], twice, *good[2:])]
    wait(futures)
    writer.close()

    failed = [future for future in futures if future.exception() is not None]
    assert len(failed) == 1
    assert isinstance(failed[0].exception(), LedgerUnavailable)
    assert reader.counts() == (6, 6)


def test_many_threads_share_commits_and_lose_nothing(path: Path, key: ApiKey, reader: SqlUsageReader) -> None:
    writer = opened(path)

    def one_request(_: int) -> None:
        admitted = admission(key)
        writer.admit(admitted).result()
        writer.settle(settlement(admitted.request_id)).result()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one_request, range(400)))
    writer.close()

    assert reader.counts() == (400, 0)
    assert sum(record.usage.completion_tokens or 0 for _, record in reader.records()) == 400 * 8


def test_a_settlement_that_cannot_be_written_follows_later_and_an_admission_does_not(
    path: Path, key: ApiKey, reader: SqlUsageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    writer, admitted = opened(path), admission(key)
    writer.admit(admitted).result()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    settled, refused = writer.settle(settlement(admitted.request_id)), writer.admit(admission(key))
    with pytest.raises(LedgerUnavailable, match="locked"):
        refused.result(timeout=20)
    assert not settled.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    settled.result(timeout=20)
    writer.close()

    assert reader.counts() == (1, 0)


def test_a_writer_that_has_ended_refuses_at_once(path: Path, key: ApiKey, reader: SqlUsageReader) -> None:
    writer = opened(path)
    writer.close()

    with pytest.raises(LedgerUnavailable, match="ended"):
        writer.admit(admission(key)).result(timeout=5)
    assert not writer.has_room()
    assert reader.counts() == (0, 0)


def test_closing_writes_what_is_queued(path: Path, key: ApiKey, reader: SqlUsageReader) -> None:
    writer = opened(path)
    admitted = [admission(key) for _ in range(50)]
    for one in admitted:
        writer.admit(one)
        writer.settle(settlement(one.request_id))

    writer.close()

    assert reader.counts() == (50, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM usage_record",
        "UPDATE usage_record SET completion_tokens = 1 WHERE state = 'settled'",
        "UPDATE usage_record SET state = 'admitted', settled_at_us = NULL, usage_source = 'none'",
        "UPDATE usage_record SET team = 'other' WHERE state = 'admitted'",
        "UPDATE usage_record SET request_id = upper(request_id)",
        "UPDATE usage_record SET seq = seq + 100",
        "INSERT OR REPLACE INTO usage_record SELECT * FROM usage_record WHERE state = 'admitted'",
        (
            "INSERT INTO usage_record (request_id, boot_id, state, key_id, team, model, endpoint, stream,"
            " admitted_at_us, settled_at_us, outcome, usage_source) SELECT replace(request_id, '-', 'x'), boot_id,"
            " 'settled', key_id, team, model, endpoint, stream, 1, 1, 'completed', 'final' FROM usage_record"
        ),
        "DELETE FROM api_key",
        "UPDATE api_key SET team = 'other'",
        "UPDATE api_key SET revoked_at_us = NULL",
        "UPDATE api_key SET revoked_at_us = 2 WHERE revoked_at_us IS NOT NULL",
        "INSERT OR REPLACE INTO api_key SELECT * FROM api_key WHERE revoked_at_us IS NULL",
    ],
)
def test_history_cannot_be_rewritten_by_whoever_has_the_file(path: Path, key: ApiKey, statement: str) -> None:
    writer, open_one, closed_one = opened(path), admission(key), admission(key)
    writer.admit(open_one).result()
    writer.admit(closed_one).result()
    writer.settle(settlement(closed_one.request_id)).result()
    writer.close()
    engine = open_ledger(path)
    revoked, _ = SqlKeyRegister(engine).create(name="old", team="t", at=NOW)
    SqlKeyRegister(engine).revoke(revoked.key_id, NOW)
    engine.dispose()
    connection = sqlite3.connect(path)
    before = list(connection.iterdump())

    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    connection.rollback()

    assert list(connection.iterdump()) == before
    connection.close()


def test_the_ledgers_file_has_the_owner_and_mode_it_was_made_with(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    owner = 54321 if os.getuid() == 0 else os.getuid()

    create_ledger(path, owner, os.getgid())
    engine = open_ledger(path)
    SqlKeyRegister(engine).create(name="n", team="t", at=NOW)

    for file in (path, tmp_path / "ledger.db-wal", tmp_path / "ledger.db-shm"):
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (owner, 0o640), file
    create_ledger(path, owner, os.getgid())
    assert len(SqlKeyRegister(engine).keys()) == 1
    engine.dispose()


def test_a_ledger_that_is_missing_or_of_another_version_is_not_used(tmp_path: Path, path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="There is no ledger"):
        open_ledger(tmp_path / "none.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE ledger_schema SET version_num = 'ledger_9999'")
    connection.close()

    with pytest.raises(LedgerUnavailable, match="ledger_9999"):
        open_ledger(path)
    assert not (tmp_path / "none.db").exists()


def test_the_schema_that_is_asked_for_is_the_newest_migrations() -> None:
    folder = Path(database.__file__).parent / "migrations"

    assert ScriptDirectory(str(folder)).get_current_head() == database.SCHEMA


def test_the_log_is_grown_once_and_commits_fit_into_it(path: Path, key: ApiKey) -> None:
    writer = opened(path)
    log, database = path.with_name("ledger.db-wal"), path.stat().st_size
    grown, blocks = log.stat().st_size, log.stat().st_blocks * 512

    for _ in range(50):
        writer.admit(admission(key)).result()

    assert grown >= 8 * 1024 * 1024
    assert blocks >= grown
    assert log.stat().st_size == grown
    assert path.stat().st_size < database + 1024 * 1024
    writer.close()


def test_a_secret_is_shown_once_and_only_its_hash_is_kept(path: Path) -> None:
    engine = open_ledger(path)
    register, lookup = SqlKeyRegister(engine), KeyLookup(engine)

    key, secret = register.create(name="ci", team="research", at=NOW)

    assert secret.startswith("lwd_")
    assert len(secret) == 4 + 43
    assert register.keys() == [key]
    assert key.prefix == secret[:8]
    assert lookup.find(secret) == key
    assert lookup.find(secret[:-1]) is None
    assert lookup.find("") is None
    engine.dispose()
    stored = b"".join(file.read_bytes() for file in path.parent.glob("ledger.db*"))
    assert secret[8:].encode() not in stored


def test_a_revoked_key_is_forgotten_when_the_cache_is_stale(path: Path) -> None:
    now = 0.0
    engine = open_ledger(path)
    register, lookup = SqlKeyRegister(engine), KeyLookup(engine, cache_s=0.5, monotonic=lambda: now)
    key, secret = register.create(name="ci", team="research", at=NOW)
    assert lookup.find(secret) == key

    register.revoke(key.key_id, NOW)
    register.revoke(key.key_id, NOW + timedelta(days=1))
    now = 0.51

    assert lookup.find(secret) is None
    assert register.keys()[0].revoked_at == NOW
    with pytest.raises(NotFound):
        register.revoke("key_none", NOW)
    engine.dispose()


def test_request_ids_are_version_7_and_sort_by_time() -> None:
    ids = [new_request_id(NOW + timedelta(milliseconds=n), os.urandom(10)) for n in range(50)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 50
    for made in ids:
        assert made[14] == "7"
        assert made[19] in "89ab"


def test_a_settlement_cannot_claim_final_counts_that_it_has_not() -> None:
    with pytest.raises(ValueError, match="only if"):
        Settlement(
            request_id="r",
            state=UsageState.SETTLED,
            settled_at=NOW,
            first_token_at=None,
            http_status=200,
            outcome=UsageOutcome.COMPLETED,
            finish_reason=None,
            usage=COUNTS,
            usage_source=UsageSource.CONTINUOUS,
        )
