"""Evidence from the registers to a bundle that another machine verifies."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.domain.audit import follow_lines
from appliance.domain.errors import Canceled, LedgerUnavailable, NotFound, RequestInvalid
from appliance.domain.events import LogLine, OperationStarted, OperationSucceeded, StepFinished, StepStarted
from appliance.domain.operation import STEPS, Actor, OperationId, OperationKind, OperationRequest, StepName
from appliance.domain.usage import UsageState
from appliance.services.evidence import EvidencePorts
from appliance.services.exports import EvidenceExports, ExportPlaces
from bundles.errors import ContentMismatch, RollbackRefused, SignatureRefused
from bundles.layout import BLOBS, METADATA, open_bundle
from bundles.release import BundleKind
from bundles.trust import TrustStore
from bundles.verify import import_release, verify_content
from tests.nodes import node
from tests.unit.exports.twins import (
    NOW,
    TwinAuditLog,
    TwinJournal,
    TwinKeys,
    TwinLicenses,
    TwinProbe,
    TwinUsage,
    usage_record,
)

ADA = Actor(name="ada", uid=1000)


class Site:
    """A node with a little history, and an auditor's laptop."""

    def __init__(self, tmp_path: Path) -> None:
        self.audit = TwinAuditLog()
        self.usage = TwinUsage([usage_record(n) for n in range(1, 6)])
        self.keys = TwinKeys()
        self.journal = TwinJournal()
        self.places = ExportPlaces(keys=tmp_path / "site" / "evidence-keys", work=tmp_path / "site" / "work")
        self.destination = tmp_path / "medium"
        self.destination.mkdir()
        self.laptop = tmp_path / "laptop"
        self.audit.append(actor="ada", action="install", object_="op-1", outcome="succeeded", details={"note": "ü"})
        self.keys.create(name="ci", team="=research", at=NOW)
        self.exports = EvidenceExports(
            EvidencePorts(
                audit=self.audit,
                usage=lambda: self.usage,
                key_register=lambda: self.keys,
                licenses=TwinLicenses(),
                journal=self.journal,
                probe=TwinProbe(node("four-h200")),
                release_json=lambda: b'{"schema":"leeward-release/1"}',
            ),
            self.places,
            node="llm01.example",
        )

    def collect(self, work_id: str = "op-9") -> Path:
        return self.exports.collect(work_id, at=NOW, is_canceled=lambda: False).folder

    def sign(self, work_id: str = "op-9", at_s: int = 0) -> Path:
        at = NOW.replace(second=at_s)
        return self.exports.sign(work_id, self.destination, actor=ADA, at=at, is_canceled=lambda: False).folder

    def export(self, work_id: str = "op-9", at_s: int = 0) -> Path:
        self.collect(work_id)
        return self.sign(work_id, at_s)

    def read(self, bundle_folder: Path) -> Path:
        """Verify on the laptop and return the folder with the files in it."""
        bundle = open_bundle(bundle_folder)
        trust = TrustStore(self.laptop / "trust")
        fingerprint = self.exports.root_fingerprint()
        assert fingerprint is not None
        trust.anchor((bundle_folder / METADATA / "1.root.json").read_bytes(), fingerprint)
        verified = trust.check(bundle, now=NOW)
        assert not verify_content(bundle, verified.release)
        slot = import_release(
            bundle,
            verified,
            store=self.laptop / "store",
            slots=self.laptop / "slots",
            staging=self.laptop / "staging",
        )
        verified.commit()
        assert verified.release.kind is BundleKind.EVIDENCE
        return slot


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_auditor_verifies_the_export_on_another_machine_and_reads_every_record(site: Site) -> None:
    files = site.read(site.export())

    lines = (files / "usage/usage.jsonl").read_text().splitlines()
    assert [json.loads(line)["completion_tokens"] for line in lines] == [1, 2, 3, 4, 5]
    chain = follow_lines((files / "audit/audit.jsonl").read_text().splitlines())
    figures = json.loads((files / "export.json").read_text())
    assert chain.holds
    assert (figures["audit_head"], figures["audit_entries"]) == (chain.head, chain.entries)
    assert figures["usage_records"] == 5
    assert chain.head in (files / "README.txt").read_text()
    assert (files / "release/release.json").read_bytes() == b'{"schema":"leeward-release/1"}'
    assert json.loads((files / "node/facts.json").read_text())["gpus"][0]["name"] == "NVIDIA H200"


def test_the_lines_in_the_readme_check_the_log_without_leeward(site: Site) -> None:
    folder = site.collect()
    text = (folder / "README.txt").read_text()
    begin = text.index("      import hashlib")
    program = textwrap.dedent(text[begin : text.index("print(head)") + len("print(head)")])

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", program]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    good = run()
    log = folder / "audit/audit.jsonl"
    log.write_text(log.read_text().replace('"ada"', '"eve"'))
    bad = run()

    assert good.stdout.strip() == json.loads((folder / "export.json").read_text())["audit_head"]
    assert bad.returncode == 1
    assert "AssertionError: 1" in bad.stderr


def test_a_changed_byte_of_an_export_is_refused(site: Site) -> None:
    folder = site.export()
    blob = max((folder / BLOBS).iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes().replace(b"H200", b"H100", 1))

    with pytest.raises((ContentMismatch, AssertionError)):
        site.read(folder)

    assert not (site.laptop / "slots").exists() or not any((site.laptop / "slots").iterdir())


def test_an_export_by_other_keys_is_refused_under_the_fingerprint_on_paper(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    forged = Site(tmp_path / "other").export()
    site.export()

    with pytest.raises(SignatureRefused):
        site.read(forged)


def test_an_older_export_is_refused_after_a_newer_one(site: Site) -> None:
    older = site.export("op-1", at_s=1)
    newer = site.export("op-2", at_s=2)
    site.read(newer)

    with pytest.raises(RollbackRefused):
        site.read(older)


def test_signing_leaves_only_the_bundle_and_an_honest_audit_log(site: Site) -> None:
    folder = site.export()

    assert sorted(path.name for path in site.destination.iterdir()) == [folder.name]
    assert list(site.places.work.iterdir()) == []
    assert site.audit.acts()[1:] == [
        ("evidence-keys.create", "begun"),
        ("evidence-keys.create", "succeeded"),
        ("evidence.export", "begun"),
        ("evidence.export", "succeeded"),
    ]
    assert site.audit.written[-1].details["root_fingerprint"] == site.exports.root_fingerprint()


def test_private_keys_are_readable_by_their_owner_alone_and_made_once(site: Site) -> None:
    site.export("op-1", at_s=1)
    before = {path.name: path.read_bytes() for path in site.places.keys.iterdir()}

    site.export("op-2", at_s=2)

    after = {path.name: path.read_bytes() for path in site.places.keys.iterdir()}
    assert after == before
    assert all(path.stat().st_mode & 0o077 == 0 for path in site.places.keys.glob("*.pem"))
    assert site.places.keys.stat().st_mode & 0o077 == 0
    assert [act for act in site.audit.acts() if act[0] == "evidence-keys.create"] == [
        ("evidence-keys.create", "begun"),
        ("evidence-keys.create", "succeeded"),
    ]
    assert not any("PRIVATE" in str(entry.details) for entry in site.audit.written)


def test_keys_are_made_in_the_empty_folder_that_provisioning_left(site: Site) -> None:
    site.places.keys.mkdir(parents=True, mode=0o700)

    site.read(site.export())

    assert site.exports.root_fingerprint() is not None
    assert site.places.keys.stat().st_mode & 0o077 == 0


def test_signing_again_after_its_end_changes_nothing(site: Site) -> None:
    folder = site.export()
    acts = site.audit.acts()
    bytes_before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    again = site.sign()

    assert again == folder
    assert site.audit.acts() == acts
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == bytes_before


def test_the_same_records_give_the_same_bytes(site: Site) -> None:
    first = contents(site.collect("a"))
    second = contents(site.collect("b"))

    assert first == second
    assert len(first) == 12


def test_a_large_ledger_is_read_page_by_page(site: Site) -> None:
    site.usage.rows = [usage_record(n) for n in range(1, 3_502)]

    folder = site.collect()

    assert len((folder / "usage/usage.jsonl").read_text().splitlines()) == 3_501
    assert site.usage.largest_page == 1_000


def test_a_team_name_that_is_a_formula_does_nothing_in_a_spreadsheet(site: Site) -> None:
    for team in ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "＝1", 'quo"ted, and\nbroken'):  # noqa: RUF001  the full-width sign is meant
        site.usage.rows.append(usage_record(9, team=team))

    folder = site.collect()

    teams = [row["team"] for row in table(folder / "usage/usage.csv")][5:]
    raw = [json.loads(line)["team"] for line in (folder / "usage/usage.jsonl").read_text().splitlines()][5:]
    assert all(team.startswith("'") for team in teams[:-1])
    assert teams[-1] == 'quo"ted, and\nbroken'
    assert [team.removeprefix("'") for team in teams] == raw


def test_unknown_counts_are_empty_in_csv_null_in_json_and_counted_in_the_sums(site: Site) -> None:
    site.usage.rows = [usage_record(1), usage_record(2, state=UsageState.ADMITTED)]

    folder = site.collect()

    rows = table(folder / "usage/usage.csv")
    lines = [json.loads(line) for line in (folder / "usage/usage.jsonl").read_text().splitlines()]
    (sums,) = table(folder / "usage/sums.csv")
    assert rows[1]["prompt_tokens"] == ""
    assert lines[1]["prompt_tokens"] is None
    assert (sums["requests"], sums["settled"], sums["admitted"]) == ("2", "1", "1")
    assert (sums["prompt_tokens"], sums["completion_tokens"]) == ("10", "1")
    assert sums["requests_with_unknown_tokens"] == "1"


def test_a_broken_audit_log_is_exported_and_called_broken(site: Site) -> None:
    site.audit.append(actor="eve", action="key.revoke", object_="key_1", outcome="succeeded", details={})
    del site.audit.written[0]

    collected = site.exports.collect("op-9", at=NOW, is_canceled=lambda: False)

    assert collected.chain.broken_at == 1
    assert "BROKEN" in collected.summary
    assert "BROKEN" in (collected.folder / "README.txt").read_text()
    assert json.loads((collected.folder / "export.json").read_text())["audit_broken_at"] == 1


def test_what_ran_when_is_told_without_log_lines(site: Site) -> None:
    operation = OperationId("op-1")
    request = OperationRequest(kind=OperationKind.PROVISION, parameters={})
    site.journal.create(operation, request, ADA, NOW)
    for event in (
        OperationStarted(kind=request.kind, actor="ada", node="llm01", steps=STEPS[request.kind]),
        StepStarted(step=StepName.PROVISION),
        LogLine(text="said in passing"),
        StepFinished(step=StepName.PROVISION, summary="3 changed"),
        OperationSucceeded(summary="done"),
    ):
        site.journal.append(operation, event, NOW)

    text = (site.collect() / "operations/operations.jsonl").read_text()

    (told,) = [json.loads(line) for line in text.splitlines()]
    assert (told["actor"], told["state"], told["steps"][1]["summary"]) == ("ada", "succeeded", "3 changed")
    assert "said in passing" not in text


def test_a_canceled_collection_signs_nothing(site: Site) -> None:
    with pytest.raises(Canceled):
        site.exports.collect("op-9", at=NOW, is_canceled=lambda: True)

    with pytest.raises(NotFound):
        site.sign()
    assert list(site.destination.iterdir()) == []
    assert ("evidence.export", "succeeded") not in site.audit.acts()


def test_collecting_begins_anew_after_a_kill(site: Site) -> None:
    leftover = site.places.work / "op-9" / "usage" / "half.csv"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("half a line")

    folder = site.collect()

    assert not (folder / "usage" / "half.csv").exists()


def test_what_an_export_left_unsigned_is_gone_with_the_next(site: Site) -> None:
    site.collect("op-7")
    site.export("op-8")

    assert list(site.places.work.iterdir()) == []


def test_a_missing_destination_is_refused_before_anything_is_made(site: Site, tmp_path: Path) -> None:
    site.collect()

    with pytest.raises(RequestInvalid):
        site.exports.sign("op-9", tmp_path / "none", actor=ADA, at=NOW, is_canceled=lambda: False)

    assert not site.places.keys.exists()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("work_id", ["", "..", "a/b", "a" * 65])
def test_a_work_folder_cannot_leave_its_place(site: Site, work_id: str) -> None:
    with pytest.raises(RequestInvalid):
        site.exports.discard(work_id)


def test_without_a_ledger_the_export_says_so(site: Site) -> None:
    def missing() -> TwinUsage:
        raise LedgerUnavailable(detail="There is no ledger.", remedy="Provision.")

    exports = with_usage(site, missing)

    with pytest.raises(LedgerUnavailable):
        exports.collect("op-9", at=NOW, is_canceled=lambda: False)


def with_usage(site: Site, usage: Callable[[], TwinUsage]) -> EvidenceExports:
    ports = EvidencePorts(
        audit=site.audit,
        usage=usage,
        key_register=lambda: site.keys,
        licenses=TwinLicenses(),
        journal=site.journal,
        probe=TwinProbe(node("lab-node")),
        release_json=lambda: None,
    )
    return EvidenceExports(ports, site.places, node="n")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
