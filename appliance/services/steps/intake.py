"""Step `import`: verify while copying, then let the release wait for its activation.

The order makes a kill at any instant safe, and each line may be done again:

    check signatures and policy on a copy   nothing has changed
    receipts that came on the media         checked and kept; a broken chain stops here
    the site's scanner, every volume        its verdict is in the audit log; without a clean one, nothing goes on
    audit entries of overrides              who let it in, and why, before it is
    copy, hash, build the slot              verified files and at most one unnamed slot more
    commit the trusted state                the medium's epoch is now the oldest acceptable
    point `next` at the slot                `provision` will activate it
    custody receipt                         signed by the site's keys, once for each operation
    audit entry                             before the step's end is in the journal
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.domain.events import LogLine, Progressed, Unit
from appliance.domain.operation import VOLUMES, StepName
from appliance.ports import AuditLog, Clock, MediaScanner, Slots
from appliance.services.custody import Arrival, Custody
from appliance.services.steps import StepContext
from bundles.counter import Counter, NodeCounter
from bundles.errors import ReleaseInvalid, ScanFailed, ScanRefused, StoreUnusable
from bundles.media.opening import Media, open_media
from bundles.media.taking import import_media
from bundles.release import BundleKind, Release
from bundles.store import Store, find_room
from bundles.trust import TrustStore, Verified
from bundles.verity import protection


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlaces:
    """Folders of the import; `store`, `slots` and `staging` lie on one file system."""

    trust: Path
    store: Path
    slots: Path
    staging: Path


class ImportStep:
    """Imports the release on the medium; without a `scanner` nothing is scanned, and log and receipt say so.

    Raises TrustError, ScanFailed, MediaMissing, StoreFull, StoreUnusable, Canceled.
    """

    def __init__(
        self,
        *,
        places: ImportPlaces,
        slots: Slots,
        audit: AuditLog,
        clock: Clock,
        custody: Custody,
        scanner: MediaScanner | None = None,
        counter: Counter | None = None,
    ) -> None:
        self._places = places
        self._slots = slots
        self._audit = audit
        self._clock = clock
        self._custody = custody
        self._scanner = scanner
        self._counter = counter or NodeCounter()

    def run(self, context: StepContext) -> str:
        """Verify, copy, adopt."""
        media = open_media(media_paths(context.parameters))
        verified = media.check(TrustStore(self._places.trust, counter=self._counter), now=self._clock.now())
        release = verified.release
        _require_release(release)
        signers = "; ".join(str(role) for role in verified.roles)
        context.emit(LogLine(text=f"{release.name} {release.version}, epoch {release.epoch}: {signers}"))
        journey = self._custody.prepare(verified, [volume.bundle for volume in media.volumes], context.actor)
        for hop in journey.hops:
            context.emit(LogLine(text=f"receipt: {hop}"))
        scanned = self._scan(context, media)
        self._record_overrides(context, verified)
        room = find_room(release.files, store=Store(self._places.store / "sha256"), staging=self._places.staging)
        needed, free = room.needed_bytes / 1e9, room.free_bytes / 1e9
        context.emit(LogLine(text=f"needs {needed:.1f} GB of disk at its peak, {free:.1f} GB are free"))

        def progress(what: str, done: int, total: int) -> None:
            context.emit(Progressed(step=StepName.IMPORT, label=what, done=done, total=total, unit=Unit.BYTES))

        import_media(
            media,
            verified,
            store=self._places.store,
            slots=self._places.slots,
            staging=self._places.staging,
            progress=progress,
            is_canceled=context.is_canceled,
        )
        try:
            verified.commit()
        except OSError as error:
            raise StoreUnusable(
                detail=f"the trusted state in {self._places.trust} could not be adopted: {error}",
                remedy="Look at the disk (`journalctl -k`), then import again; the release is not active.",
            ) from error
        self._slots.await_activation(release.slot)
        slot = self._places.slots / release.slot
        context.emit(LogLine(text=str(protection(slot / entry.path for entry in release.files))))
        receipts = self._custody.sign(
            Arrival(
                chain=journey.chain,
                verified=verified,
                operation_id=context.operation_id,
                actor=context.actor,
                at=self._clock.now(),
                volumes=tuple(volume.header.label for volume in media.volumes if volume.header),
                scanned=scanned,
            )
        )
        self._record(context, verified, receipts)
        return f"{release.name} {release.version}, epoch {release.epoch}, {release.size_bytes / 1e9:.1f} GB verified"

    def _scan(self, context: StepContext, media: Media) -> str:
        """Ask the site's scanner about every volume, and return what the receipt says of it. Raises what it raises."""
        if self._scanner is None:
            context.emit(LogLine(text="not scanned: leeward.toml names no scanner"))
            return "not scanned, no scanner is configured"
        command: tuple[str, ...] = ()
        for volume in media.volumes:
            path = volume.bundle.path
            context.emit(LogLine(text=f"{path} is being scanned"))
            try:
                verdict = self._scanner.scan(path, is_canceled=context.is_canceled)
            except (ScanRefused, ScanFailed) as error:
                outcome = "refused" if isinstance(error, ScanRefused) else "failed"
                self._record_scan(context, path, outcome, {"said": error.detail})
                raise
            command = verdict.command[:-1]
            self._record_scan(context, path, "clean", {"command": shlex.join(command), "said": verdict.said})
            context.emit(LogLine(text=f"{path} is clean, says {shlex.join(command)}"))
        return f"{len(media.volumes)} scanned and clean, says {shlex.join(command)}"

    def _record_scan(self, context: StepContext, volume: Path, outcome: str, details: dict[str, str]) -> None:
        self._audit.append(
            actor=context.actor.name,
            action="medium.scan",
            object_=str(volume),
            outcome=outcome,
            details={"operation": context.operation_id, **details},
        )

    def _record_overrides(self, context: StepContext, verified: Verified) -> None:
        """Say who let a release in that would have been refused, and why, before anything is done with it."""
        for one in verified.overrides:
            context.emit(
                LogLine(
                    text=f"{one.approval.action} by {one.approver} ({one.approval.at:%Y-%m-%d}): {one.approval.reason}"
                )
            )
            self._audit.append(
                actor=one.approver,
                action=f"release.{one.approval.action}",
                object_=verified.release.slot,
                outcome="recorded",
                details={
                    "operation": context.operation_id,
                    "reason": one.approval.reason,
                    "signed_at": one.approval.at.isoformat(),
                    "release_sha256": one.approval.release_sha256,
                    "accepted_epoch": str(one.approval.accepted_epoch),
                },
            )

    def _record(self, context: StepContext, verified: Verified, receipts: Path) -> None:
        release = verified.release
        details = {
            "operation": context.operation_id,
            "name": release.name,
            "epoch": str(release.epoch),
            "root_fingerprint": verified.root_fingerprint,
            "medium": ", ".join(map(str, media_paths(context.parameters))),
            "receipts": str(receipts),
        }
        if verified.approvers_digest is not None:
            details["approved_by"] = ", ".join(verified.approved_by)
            details["approvers_sha256"] = verified.approvers_digest
        self._audit.append(
            actor=context.actor.name, action="release.import", object_=release.slot, outcome="verified", details=details
        )


def media_paths(parameters: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders of the media: `medium`, then `volumes`, one a line; none where no medium is named."""
    return tuple(
        Path(line) for line in (parameters.get("medium", ""), *parameters.get(VOLUMES, "").splitlines()) if line
    )


def _require_release(release: Release) -> None:
    if release.kind is not BundleKind.RELEASE or release.engine is None:
        raise ReleaseInvalid(
            detail=f"The bundle {release.name} is of kind {release.kind}; a release with an engine is needed.",
            remedy="Bring the medium that carries a release; an evidence bundle is read with `leeward bundle verify`.",
        )
