"""Evidence as plain files: everything that an auditor takes away, before it is signed.

Files are written page by page, so that a ledger of any size fits in bounded memory. The same
records give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from appliance.domain.acceptance import PassportView
from appliance.domain.audit import Chain, follow_lines, to_line
from appliance.domain.egress import EgressReport
from appliance.domain.errors import Canceled
from appliance.domain.operation import OperationId
from appliance.domain.passport_page import page
from appliance.domain.posture import PostureFinding
from appliance.domain.projection import OperationView, fold_all
from appliance.domain.sheet import csv_line
from appliance.domain.usage import UsageRecord
from appliance.domain.wire import to_plain
from appliance.ports import AuditLog, IsCanceled, Journal, KeyRegister, LicenseRegister, NodeProbe, UsageReader
from appliance.services.evidence_readme import readme
from appliance.services.tables import SUM_COLUMNS, USAGE_COLUMNS, UsageSums, json_line, usage_cells

SCHEMA: Final = "leeward-evidence/1"
PAGE: Final = 1_000
_ALL_OPERATIONS: Final = 1_000_000
_NOT_EXPORTED: Final = ("progress", "tasks", "log")
"""Parts of an operation's view that are for watching it, not for keeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePorts:
    """What evidence is made from. `release_json` gives the current release's manifest as its exact bytes.

    `receipts` gives custody receipts with their paths; it may raise MediaMissing and ReceiptInvalid. `usage`
    and `key_register` open the ledger and may raise LedgerUnavailable.
    """

    audit: AuditLog
    usage: Callable[[], UsageReader]
    key_register: Callable[[], KeyRegister]
    licenses: LicenseRegister
    journal: Journal
    probe: NodeProbe
    release_json: Callable[[], bytes | None]
    egress: Callable[[], EgressReport] | None = None
    posture: Callable[[], tuple[PostureFinding, ...]] | None = None
    receipts: Callable[[], Iterator[tuple[str, bytes]]] | None = None
    passports: Callable[[], tuple[PassportView, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was gathered: the audit log's chain as exported, and the number of usage records."""

    folder: Path
    chain: Chain
    usage_records: int

    @property
    def summary(self) -> str:
        """One line for people."""
        word = "" if self.chain.holds else ", BROKEN"
        return f"{self.usage_records:,} usage records, {self.chain.entries:,} audit entries{word}"


class EvidenceWriter:
    """Writes the evidence of one export into an empty folder."""

    def __init__(self, ports: EvidencePorts, folder: Path, is_canceled: IsCanceled) -> None:
        self._ports = ports
        self._folder = folder
        self._is_canceled = is_canceled

    def write(self, *, node: str, at: datetime) -> Collected:
        """Write all files; raises LedgerUnavailable, Canceled. A broken audit log is exported and called so."""
        chain = self._audit()
        records = self._usage()
        self._operations()
        self._registers()
        self._json("node/facts.json", to_plain(self._ports.probe.facts()))
        self._node_security()
        self._passports()
        manifest = self._ports.release_json()
        if manifest is not None:
            self._path("release/release.json").write_bytes(manifest)
        if self._ports.receipts is not None:
            for path, content in self._ports.receipts():
                self._path(f"receipts/{path}").write_bytes(content)
        self._path("README.txt").write_text(readme(node=node, at=at, chain=chain, records=records), encoding="utf-8")
        figures = {
            "schema": SCHEMA,
            "node": node,
            "exported_at": at.astimezone(UTC).isoformat(),
            "audit_entries": chain.entries,
            "audit_head": chain.head,
            "audit_broken_at": chain.broken_at,
            "usage_records": records,
        }
        self._json("export.json", figures)
        return Collected(folder=self._folder, chain=chain, usage_records=records)

    def _audit(self) -> Chain:
        """Write the log, then follow what was written, not what was meant."""
        path = "audit/audit.jsonl"
        with self._text(path) as stream:
            after = 0
            while entries := self._ports.audit.entries(after, PAGE):
                self._stop_if_canceled()
                stream.writelines(to_line(entry) + "\n" for entry in entries)
                after = entries[-1].seq
        with self._path(path).open(encoding="ascii") as lines:
            return follow_lines(lines)

    def _usage(self) -> int:
        sums = UsageSums()
        with self._text("usage/usage.csv") as table, self._text("usage/usage.jsonl") as lines:
            table.write(csv_line(USAGE_COLUMNS))
            for seq, record in self._records():
                cells = usage_cells(seq, record)
                table.write(csv_line(tuple(cells.values())))
                lines.write(json_line(cells))
                sums.add(record)
        with self._text("usage/sums.csv") as table:
            table.write(csv_line(SUM_COLUMNS))
            table.writelines(csv_line(row) for row in sums.rows())
        return sums.records

    def _records(self) -> Iterator[tuple[int, UsageRecord]]:
        reader, after = self._ports.usage(), 0
        while page := reader.records(after, PAGE):
            self._stop_if_canceled()
            yield from page
            after = page[-1][0]

    def _operations(self) -> None:
        listed = self._ports.journal.operations(_ALL_OPERATIONS)
        with self._text("operations/operations.jsonl") as stream:
            for operation_id, request, _ in reversed(listed):
                self._stop_if_canceled()
                view = self._view(operation_id)
                if view is not None:
                    plain = {name: value for name, value in to_plain(view).items() if name not in _NOT_EXPORTED}
                    stream.write(json_line({**plain, "parameters": request.parameters}))

    def _view(self, operation_id: OperationId) -> OperationView | None:
        view, after = None, 0
        while records := self._ports.journal.records(operation_id, after, PAGE):
            view = fold_all(view, records)
            after = records[-1].seq
        return view

    def _registers(self) -> None:
        licenses, register = self._ports.licenses, self._ports.key_register()
        self._json("license/terms.json", to_plain(licenses.terms()))
        self._json("license/attestations.json", to_plain(licenses.attestations()))
        self._json("keys/keys.json", to_plain(register.keys()))

    def _node_security(self) -> None:
        """Write what tried to get out, and how the node stands against the compliance table."""
        if self._ports.egress is not None:
            seen = self._ports.egress()
            self._json("node/egress.json", {"sentence": seen.sentence, "days": seen.days, **to_plain(seen)})
        if self._ports.posture is not None:
            self._json("node/compliance.json", to_plain(self._ports.posture()))

    def _passports(self) -> None:
        """Write every passport as it is kept, and as the page that people read."""
        for view in () if self._ports.passports is None else self._ports.passports():
            passport = view.passport
            self._json(f"passports/{passport.id}.json", to_plain(passport))
            self._path(f"passports/{passport.id}.txt").write_text(page(view), encoding="utf-8")

    def _stop_if_canceled(self) -> None:
        if self._is_canceled():
            raise Canceled(detail="The export was asked to stop.", remedy="Start it again when it suits.")

    def _path(self, relative: str) -> Path:
        path = self._folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def _text(self, relative: str) -> Iterator[TextIO]:
        with self._path(relative).open("w", encoding="utf-8", newline="") as stream:
            yield stream

    def _json(self, relative: str, plain: object) -> None:
        text = json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        self._path(relative).write_text(text + "\n", encoding="utf-8")
