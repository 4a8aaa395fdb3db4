"""Evidence from the real registers: the state database and the ledger, killed at many instants."""

from __future__ import annotations

import os
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.adapters.sql.audit_log import SqlAuditLog
from appliance.adapters.sql.database import Database
from appliance.adapters.sql.journal import SqlJournal
from appliance.adapters.sql.license_register import SqlLicenseRegister
from appliance.adapters.sql_ledger.database import create_ledger, open_ledger
from appliance.adapters.sql_ledger.keys import SqlKeyRegister
from appliance.adapters.sql_ledger.reader import SqlUsageReader
from appliance.adapters.sql_ledger.writer import LedgerWriter
from appliance.domain.audit import follow, follow_lines
from appliance.domain.operation import Actor
from appliance.domain.usage import (
    Admission,
    Settlement,
    TokenUsage,
    UsageOutcome,
    UsageSource,
    UsageState,
    new_request_id,
)
from appliance.services.evidence import EvidencePorts
from appliance.services.exports import EvidenceExports, ExportPlaces
from bundles.layout import METADATA, open_bundle
from bundles.trust import TrustStore
from bundles.verify import verify_content
from tests.nodes import node
from tests.unit.exports.twins import TwinProbe

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
ADA = Actor(name="ada", uid=1000)
KILLED = 9
REQUESTS = 7


def request_id(number: int) -> str:
    return new_request_id(NOW, bytes([number] * 10))


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Site:
    """One node's state on disk; made anew by every process that opens it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database.open(root / "leeward.db")
        self.audit = SqlAuditLog(self.database, RealClock())
        ledger = open_ledger(root / "ledger.db")
        self.ledger = ledger
        self.places = ExportPlaces(keys=root / "evidence-keys", work=root / "work")
        self.destination = root / "medium"
        self.exports = EvidenceExports(
            EvidencePorts(
                audit=self.audit,
                usage=lambda: SqlUsageReader(ledger),
                key_register=lambda: SqlKeyRegister(ledger),
                licenses=SqlLicenseRegister(self.database),
                journal=SqlJournal(self.database),
                probe=TwinProbe(node("lab-node")),
                release_json=lambda: None,
            ),
            self.places,
            node="llm01",
        )

    def close(self) -> None:
        self.database.close()
        self.ledger.dispose()

    def export(self) -> Path:
        self.exports.collect("op-1", at=NOW, is_canceled=lambda: False)
        return self.exports.sign("op-1", self.destination, actor=ADA, at=NOW, is_canceled=lambda: False).folder


def make(root: Path) -> Path:
    root.mkdir()
    (root / "medium").mkdir()
    create_ledger(root / "ledger.db", os.getuid(), os.getgid())
    engine = open_ledger(root / "ledger.db")
    key, _ = SqlKeyRegister(engine).create(name="ci", team="research", at=NOW)
    engine.dispose()
    writer = LedgerWriter(root / "ledger.db", boot_id="boot-1", reserve_bytes=1)
    writer.open()
    for number in range(REQUESTS):
        at = NOW + timedelta(microseconds=number)
        admission = Admission(
            request_id=request_id(number), key_id=key.key_id, team="research", model="m",
            endpoint="/v1/chat/completions", stream=True, admitted_at=at,
        )  # fmt: skip
        writer.admit(admission).result(5)
        settlement = Settlement(
            request_id=request_id(number), state=UsageState.SETTLED, settled_at=at, first_token_at=at,
            http_status=200,
            outcome=UsageOutcome.COMPLETED, finish_reason="stop",
            usage=TokenUsage(prompt_tokens=3, completion_tokens=number), usage_source=UsageSource.FINAL,
        )  # fmt: skip
        writer.settle(settlement).result(5)
    writer.close()
    site = Site(root)
    for number in range(5):
        site.audit.append(actor="ä\u2028", action="act", object_=str(number), outcome="ok", details={"ü": "\ud800"})
    site.close()
    return root


def child(root: Path, *, kill_at: int | None) -> int:
    """Export in a forked process that dies at its `kill_at`-th file operation; returns how it ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    count = 0

    def hook(name: str, _: object) -> None:
        nonlocal count
        if name in {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}:
            count += 1
            if count == kill_at:
                os._exit(KILLED)

    try:
        sys.addaudithook(hook)
        Site(root).export()
        (root / "count").write_text(str(count))
    except BaseException:  # noqa: BLE001  a child of a fork must end here, whatever happened
        os._exit(1)
    os._exit(0)


def check(root: Path) -> None:
    """Assert that one whole, verifiable export is there and nothing else."""
    site = Site(root)
    (bundle_folder,) = site.destination.iterdir()
    fingerprint = site.exports.root_fingerprint()
    assert fingerprint is not None
    trust = TrustStore(root / "laptop")
    trust.anchor((bundle_folder / METADATA / "1.root.json").read_bytes(), fingerprint)
    bundle = open_bundle(bundle_folder)
    verified = trust.check(bundle, now=datetime.now(UTC))
    assert not verify_content(bundle, verified.release)
    assert list(site.places.work.iterdir()) == []
    assert {path.name for path in root.iterdir()} <= {
        "leeward.db", "leeward.db-wal", "leeward.db-shm", "ledger.db", "ledger.db-wal", "ledger.db-shm",
        "ledger.db.writer",
        "evidence-keys", "work", "medium", "laptop", "count",
    }  # fmt: skip
    entries = site.audit.entries()
    assert follow(entries).holds
    assert [e.outcome for e in entries if e.action == "evidence.export"].count("succeeded") == 1
    site.close()


@pytest.fixture(scope="module")
def file_operations(tmp_path_factory: pytest.TempPathFactory) -> int:
    warm = Site(make(tmp_path_factory.mktemp("warm") / "site"))  # imports are done before anything is counted
    warm.export()
    warm.close()
    root = make(tmp_path_factory.mktemp("whole") / "site")
    assert child(root, kill_at=None) == 0
    check(root)
    return int((root / "count").read_text())


@pytest.mark.parametrize("share", [n / 24 for n in range(1, 24)])
def test_an_export_killed_at_any_instant_is_finished_by_the_next_run(
    tmp_path: Path, file_operations: int, share: float
) -> None:
    root = make(tmp_path / "site")

    assert child(root, kill_at=max(1, round(file_operations * share))) == KILLED
    assert child(root, kill_at=None) == 0

    check(root)


def test_the_exported_log_of_the_real_database_holds_and_a_row_changed_behind_it_breaks_it(tmp_path: Path) -> None:
    root = make(tmp_path / "site")
    site = Site(root)
    folder = site.exports.collect("op-1", at=NOW, is_canceled=lambda: False).folder
    lines = (folder / "audit/audit.jsonl").read_text().splitlines()
    head = site.audit.head()
    assert head is not None
    assert follow_lines(lines, expected_head=head.entry_hash).entries == 5

    with sqlite3.connect(root / "leeward.db") as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE audit_entry SET actor = 'nobody' WHERE seq = 3")
    connection.close()

    collected = site.exports.collect("op-2", at=NOW, is_canceled=lambda: False)
    assert collected.chain.broken_at == 3
    site.close()


def test_every_settled_request_of_the_ledger_is_exported_once(tmp_path: Path) -> None:
    site = Site(make(tmp_path / "site"))

    folder = site.exports.collect("op-1", at=NOW, is_canceled=lambda: False).folder

    lines = (folder / "usage/usage.jsonl").read_text().splitlines()
    assert len(lines) == REQUESTS
    assert len(set(lines)) == REQUESTS
    assert '"admitted_at":"2026-11-24T08:30:00.000006Z"' in lines[6]
    site.close()
