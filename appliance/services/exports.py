"""Evidence exports: collected, then signed by the site itself.

`collect` fills a work folder of its own and begins anew when run again. `sign` makes an evidence
bundle of it, which the same verifier reads as every bundle, and leaves nothing but that bundle. The
site's keyring is made at its first use. Making the keys and signing are in the audit log, begun
before they are visible and ended after; the exported log therefore ends before its own export's
end, which the next export shows. The bundle's epoch is the number of the entry that begins it, so
that of two exports the newer one has the higher epoch.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from appliance.domain.audit import AuditEntry
from appliance.domain.errors import NotFound, RequestInvalid
from appliance.domain.operation import Actor
from appliance.ports import AuditLog, IsCanceled
from appliance.services.evidence import Collected, EvidencePorts, EvidenceWriter
from appliance.services.site_keys import SiteKeys
from bundles.publish import publish
from bundles.release import BundleKind, Release

LOOK_BACK: Final = 1_000
_FIGURES: Final = "export.json"
_WORK_ID: Final = r"[A-Za-z0-9-]{1,64}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlaces:
    """`keys` is the site's keyring; below `work` every export under way has a folder of its own."""

    keys: Path
    work: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEvidence:
    """The bundle's folder, the SHA-256 of the site's first root, and the head of the log that it holds."""

    folder: Path
    root_fingerprint: str
    audit_head: str


class EvidenceExports:
    """Collects and signs evidence; either half may run again after a kill at any instant."""

    def __init__(self, ports: EvidencePorts, places: ExportPlaces, *, node: str) -> None:
        self._ports = ports
        self._places = places
        self._node = node
        self._keys = SiteKeys(folder=places.keys, audit=ports.audit)

    def collect(self, work_id: str, *, at: datetime, is_canceled: IsCanceled) -> Collected:
        """Gather the evidence for `work_id` (an operation's id); `at` is when the export began.

        Raises LedgerUnavailable, Canceled.
        """
        folder = self._work(work_id)
        self._discard_all()
        folder.mkdir(parents=True, mode=0o700)
        return EvidenceWriter(self._ports, folder, is_canceled).write(node=self._node, at=at)

    def sign(
        self, work_id: str, destination: Path, *, actor: Actor, at: datetime, is_canceled: IsCanceled
    ) -> SignedEvidence:
        """Sign what was collected into a new folder below `destination`.

        Run again after its end, it returns the bundle that is there. Raises RequestInvalid for a
        destination that is no folder, NotFound where nothing was collected, StoreFull, Canceled.
        """
        if not destination.is_dir():
            raise RequestInvalid(
                detail=f"{destination} is not a folder", remedy="Make the folder, or name where the medium is mounted."
            )
        out = destination / _bundle_name(self._node, at)
        folder = self._work(work_id)
        ended = self._ended(out)
        if ended is not None:
            _discard(folder)
            return ended
        keyring = self._keys.open(actor)
        details = {"audit_head": _audit_head(folder), "root_fingerprint": keyring.fingerprint, "folder": str(out)}
        begun = self._record(actor, "evidence.export", out.name, "begun", details)
        publish(folder, _manifest(self._node, at, epoch=begun.seq), keyring, out=out, is_canceled=is_canceled)
        self._record(actor, "evidence.export", out.name, "succeeded", details)
        _discard(folder)
        return _signed(details)

    def discard(self, work_id: str) -> None:
        """Remove what was collected for an export that will not be signed."""
        _discard(self._work(work_id))

    def root_fingerprint(self) -> str | None:
        """Return what auditors get on paper; `None` before the first export."""
        return self._keys.fingerprint()

    def _work(self, work_id: str) -> Path:
        if not re.fullmatch(_WORK_ID, work_id):
            raise RequestInvalid(detail=f"{work_id!r} is not an operation's id", remedy="Name the operation by its id.")
        return self._places.work / work_id

    def _discard_all(self) -> None:
        """Remove this and every other work folder: one operation runs at a time, so theirs have ended unsigned."""
        if self._places.work.is_dir():
            for folder in self._places.work.iterdir():
                if re.fullmatch(_WORK_ID, folder.name) and folder.is_dir():
                    _discard(folder)

    def _ended(self, out: Path) -> SignedEvidence | None:
        """Return the export into `out` that a killed run ended, from its entry in the audit log."""
        audit = self._ports.audit
        for entry in reversed(audit.entries(max(0, audit.count() - LOOK_BACK), LOOK_BACK)):
            is_end = (entry.action, entry.object, entry.outcome) == ("evidence.export", out.name, "succeeded")
            if is_end and entry.details.get("folder") == str(out) and out.is_dir():
                return _signed(entry.details)
        return None

    def _record(self, actor: Actor, action: str, object_: str, outcome: str, details: dict[str, str]) -> AuditEntry:
        audit: AuditLog = self._ports.audit
        return audit.append(actor=actor.name, action=action, object_=object_, outcome=outcome, details=details)


def _manifest(node: str, at: datetime, *, epoch: int) -> Release:
    return Release(
        kind=BundleKind.EVIDENCE,
        name=f"evidence-{_plain_name(node)}",
        version=_stamp(at),
        epoch=epoch,
        rollback_floor=1,
        created_at=at.astimezone(UTC).replace(microsecond=0),
        files=(),
        licenses=(),
        pair=None,
        engine=None,
        requirements=None,
    )


def _bundle_name(node: str, at: datetime) -> str:
    return f"evidence-{_plain_name(node)}-{_stamp(at)}"


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _plain_name(node: str) -> str:
    """Return a node's name in the characters that a manifest allows, at most 50 of them."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", node)[:50].strip("-") or "node"


def _audit_head(folder: Path) -> str:
    try:
        return str(json.loads((folder / _FIGURES).read_text(encoding="utf-8"))["audit_head"])
    except FileNotFoundError as error:
        raise NotFound(
            detail=f"nothing is collected in {folder}",
            remedy="Start the export again: `leeward export evidence --out DIR`.",
        ) from error


def _signed(details: dict[str, str]) -> SignedEvidence:
    return SignedEvidence(
        folder=Path(details["folder"]),
        root_fingerprint=details["root_fingerprint"],
        audit_head=details["audit_head"],
    )


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
