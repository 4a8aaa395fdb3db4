"""Scrubbing: the current release is read again and again, slowly, and drift becomes an alert.

One thread at the lowest priority reads what the engine is served from, compares it with the signed
list (`bundles.scrub`), and rests a day after each round. What it finds for the first time goes into
the audit log with file and leaf, and stays an alert until the file is right again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from appliance.domain.errors import Canceled, LeewardError
from appliance.domain.health import Alert, Severity
from appliance.ports import AuditLog, Clock, Slots
from bundles.scrub import Drift, Pace, Scrub, ScrubRecord, be_idle, read_record

log = structlog.get_logger()

ACTOR: Final = "leewardd"
ACTION: Final = "release.scrub"
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubLimits:
    """Times in seconds. At 200 MB/s the real release takes 12 minutes and a quarter of one core."""

    bytes_per_s: float = 200e6
    first_s: float = 300.0
    """After the daemon's start, which often is the node's, other things come first."""
    rest_s: float = 86_400.0
    retry_s: float = 900.0
    """Until the next look where there is drift, no release, or a fault."""


class Scrubbing:
    """Scrubs the current slot. `start` does so in a thread of its own; `record` is where it stands.

    `accepted` gives the digest of the manifest that this site accepted for a slot; None where none is known.
    """

    def __init__(
        self,
        *,
        slots: Slots,
        record: Path,
        audit: AuditLog,
        clock: Clock,
        accepted: Callable[[str], str | None],
        limits: ScrubLimits | None = None,
    ) -> None:
        self._slots = slots
        self._accepted = accepted
        self._record = record
        self._audit = audit
        self._clock = clock
        self._limits = limits or ScrubLimits()
        self._failed: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin after a while, and go on until `stop`."""
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)
        self._thread.start()

    def stop(self, *, timeout_s: float = 1.0) -> None:
        """Stop between two leaves; waits up to `timeout_s`. The record is on the disk in any case."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def alerts(self) -> tuple[Alert, ...]:
        """Return what is known to have drifted in the current slot, and whether that is known at all."""
        record, slot = read_record(self._record), self._slots.current()
        found = []
        if record is not None and record.slot == slot and record.drifts:
            found.append(_drifted(record))
        if self._failed is not None and slot is not None:
            found.append(
                Alert(
                    code="release-unknown",
                    severity=Severity.WARN,
                    title="It is not known whether the release is still as signed",
                    advice=f"Seen: {self._failed} Import the release again from its medium, then look at the disk.",
                    since=None,
                )
            )
        return tuple(found)

    def once(self) -> float:
        """Go on with the current slot's round to its end; returns after how many seconds to look again.

        Raises Canceled where it was stopped.
        """
        slot = self._slots.current()
        self._failed = None
        if slot is None:
            return self._limits.retry_s
        before = read_record(self._record)
        if before is not None and before.slot == slot and before.ended_at and before.done == before.files:
            age_s = (self._clock.now() - before.ended_at).total_seconds()
            if not before.drifts and 0 <= age_s < self._limits.rest_s:
                return self._limits.rest_s - age_s
        try:
            ended = Scrub(
                self._slots.path(slot),
                self._record,
                pace=self._pace(),
                told=self._tell(slot),
                accepted=self._accepted(slot),
            ).run()
        except Canceled:
            raise
        except (LeewardError, OSError) as error:
            self._failed = getattr(error, "detail", str(error))
            log.warning("scrub_failed", detail=self._failed)
            return self._limits.retry_s
        self._tell_end(ended)
        return self._limits.retry_s if ended.drifts else self._limits.rest_s

    def _run(self) -> None:
        be_idle()
        wait_s = self._limits.first_s
        while not self._stop.wait(wait_s):
            try:
                wait_s = self.once()
            except Canceled:
                return
            except Exception as error:  # the outermost place of this thread; what is not known is said
                log.exception("scrub_ended")
                self._failed, wait_s = str(error), self._limits.retry_s

    def _pace(self) -> Pace:
        return Pace(
            bytes_per_s=self._limits.bytes_per_s,
            pause=self._stop.wait,
            now=self._clock.now,
            monotonic=time.monotonic,
        )

    def _tell(self, slot: str) -> Callable[[Drift], None]:
        def tell(drift: Drift) -> None:
            log.error("release_drifted", slot=slot, drift=str(drift))
            details = {
                "path": drift.path,
                "fault": drift.fault.value,
                "leaves": " ".join(map(str, drift.leaves)),
            }
            self._audit.append(actor=ACTOR, action=ACTION, object_=slot, outcome="failed", details=details)

        return tell

    def _tell_end(self, ended: ScrubRecord) -> None:
        details = {"files": str(ended.files), "bytes": str(ended.read_bytes), "release_sha256": ended.release_sha256}
        if not ended.drifts:
            self._audit.append(actor=ACTOR, action=ACTION, object_=ended.slot, outcome="verified", details=details)


def _drifted(record: ScrubRecord) -> Alert:
    shown = "; ".join(str(drift) for drift in record.drifts[:_SHOWN])
    more = f"; and {len(record.drifts) - _SHOWN} more" if len(record.drifts) > _SHOWN else ""
    return Alert(
        code="release-drifted",
        severity=Severity.FAIL,
        title="Files of the release are not as signed",
        advice=f"{shown}{more}. Import the release again from its medium, which replaces them, then "
        "`systemctl restart leeward-engine`; read `journalctl -k` for the disk's errors.",
        since=None,
    )
