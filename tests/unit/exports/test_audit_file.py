"""`leeward audit verify FILE`: an auditor follows an exported log without a daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance.domain.audit import to_line
from appliance.domain.errors import AuditBroken
from appliance.entrypoints.cli.records import audit
from tests.unit.exports.twins import TwinAuditLog


@pytest.fixture
def log() -> TwinAuditLog:
    log = TwinAuditLog()
    for number in range(3):
        log.append(actor="ada", action="key.create", object_=str(number), outcome="succeeded", details={})
    return log


def written(log: TwinAuditLog, tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    path.write_text("".join(to_line(entry) + "\n" for entry in log.written))
    return path


def test_an_exported_log_that_holds_is_told_with_its_head(log: TwinAuditLog, tmp_path: Path) -> None:
    head = log.written[-1].entry_hash

    result = CliRunner().invoke(audit, ["verify", str(written(log, tmp_path)), "--head", head, "--json"])

    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["entries"], told["head"], told["broken_at"]) == (3, head, None)


def test_an_exported_log_that_was_cut_is_refused_by_the_head_from_elsewhere(log: TwinAuditLog, tmp_path: Path) -> None:
    head = log.written.pop().entry_hash

    result = CliRunner().invoke(audit, ["verify", str(written(log, tmp_path)), "--head", head])

    assert isinstance(result.exception, AuditBroken)
    assert "hold" not in result.stdout


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{}\n", b"PK\x03\x04"])
def test_a_file_that_is_no_log_is_refused_and_not_a_crash(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(content)

    result = CliRunner().invoke(audit, ["verify", str(path)])

    assert isinstance(result.exception, AuditBroken)
    assert "entry 1" in result.exception.detail
