"""Step `import`: verify while copying, then let the release wait for its activation.

The order makes a kill at any instant safe, and each line may be done again:

    check signatures and policy on a copy   nothing has changed
    audit entries of overrides              who let it in, and why, before it is
    copy, hash, build the slot              verified files and at most one unnamed slot more
    commit the trusted state                the medium's epoch is now the oldest acceptable
    point `next` at the slot                `provision` will activate it
    audit entry                             before the step's end is in the journal
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.domain.events import LogLine, Progressed, Unit
from appliance.domain.operation import VOLUMES, StepName
from appliance.ports import AuditLog, Clock, Slots
from appliance.services.steps import StepContext
from bundles.counter import Counter, NodeCounter
from bundles.errors import ReleaseInvalid, StoreUnusable
from bundles.media.opening import open_media
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
    """Imports the release on the medium. Raises TrustError, MediaMissing, StoreFull, StoreUnusable, Canceled."""

    def __init__(
        self,
        *,
        places: ImportPlaces,
        slots: Slots,
        audit: AuditLog,
        clock: Clock,
        counter: Counter | None = None,
    ) -> None:
        self._places = places
        self._slots = slots
        self._audit = audit
        self._clock = clock
        self._counter = counter or NodeCounter()

    def run(self, context: StepContext) -> str:
        """Verify, copy, adopt."""
        media = open_media(media_paths(context.parameters))
        verified = media.check(TrustStore(self._places.trust, counter=self._counter), now=self._clock.now())
        release = verified.release
        _require_release(release)
        signers = "; ".join(str(role) for role in verified.roles)
        context.emit(LogLine(text=f"{release.name} {release.version}, epoch {release.epoch}: {signers}"))
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
        self._record(context, verified)
        return f"{release.name} {release.version}, epoch {release.epoch}, {release.size_bytes / 1e9:.1f} GB verified"

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

    def _record(self, context: StepContext, verified: Verified) -> None:
        release = verified.release
        details = {
            "operation": context.operation_id,
            "name": release.name,
            "epoch": str(release.epoch),
            "root_fingerprint": verified.root_fingerprint,
            "medium": ", ".join(map(str, media_paths(context.parameters))),
        }
        if verified.approvers_digest is not None:
            details["approved_by"] = ", ".join(verified.approved_by)
            details["approvers_sha256"] = verified.approvers_digest
        self._audit.append(
            actor=context.actor.name, action="release.import", object_=release.slot, outcome="verified", details=details
        )


def media_paths(parameters: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders of the media: `medium`, then `volumes`, one a line."""
    return tuple(Path(line) for line in (parameters["medium"], *parameters.get(VOLUMES, "").splitlines()) if line)


def _require_release(release: Release) -> None:
    if release.kind is not BundleKind.RELEASE or release.engine is None:
        raise ReleaseInvalid(
            detail=f"The bundle {release.name} is of kind {release.kind}; a release with an engine is needed.",
            remedy="Bring the medium that carries a release; an evidence bundle is read with `leeward bundle verify`.",
        )
