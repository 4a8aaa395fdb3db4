"""Content capture on disk: the order that the daemon writes, and the sealed lines that the gateway does.

Without an order, or with one that has ended or cannot be read, nothing is captured. What is captured
is sealed in this process, in a thread of its own, before a byte of it reaches a disk.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from errno import ENOSPC
from pathlib import Path

import structlog

from appliance.adapters.durable import write_whole
from appliance.domain.capture import CaptureOrder, order_from_text, order_to_text
from appliance.domain.errors import LeewardError, StateUnusable
from appliance.domain.usage import Admission
from bundles.capture import Captured, at_text, auditor_key, seal
from bundles.transfer import fsync_folder

log = structlog.get_logger()

_MOST_BYTES = 64 * 1024
_MOST_WAITING = 256
LEAST_ROOM_BYTES = 256 * 1024 * 1024
"""Left free for the ledger, which stops admission far below that."""


class CaptureOrderFile:
    """`ports.CaptureOrders`: one file, replaced with one rename."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> CaptureOrder | None:
        """Return the order, or `None` where there is none. Raises StateUnusable for a file that is no order."""
        try:
            with self._path.open("rb") as file:
                return order_from_text(file.read(_MOST_BYTES).decode())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StateUnusable(
                detail=f"{self._path} is no order to capture: {error}.",
                remedy="Nothing is captured meanwhile. Switch it off and on again: `leeward capture off`.",
            ) from error

    def write(self, order: CaptureOrder | None) -> None:
        """Replace or remove the order, durably. Raises StateUnusable."""
        try:
            if order is None:
                self._path.unlink(missing_ok=True)
                fsync_folder(self._path.parent)
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # The gateway reads it; a public key is no secret.
                write_whole(self._path, order_to_text(order).encode(), mode=0o644)
        except OSError as error:
            raise StateUnusable(
                detail=f"{self._path} cannot be written: {error}.", remedy="Free space on that disk and try again."
            ) from error


class Capture:
    """The gateway's side. `begin` and `keep` are for the event loop; sealing and writing go on beside it.

    A line that cannot be written is lost and said so in the log: capture stops nobody's work.
    """

    def __init__(self, order: Path, folder: Path) -> None:
        self._file = CaptureOrderFile(order)
        self._folder = folder
        self._order: CaptureOrder | None = None
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capture")

    def look(self) -> None:
        """Read the order again; an order that cannot be read is none, and that is said."""
        try:
            order = self._file.read()
        except LeewardError as error:
            order = None
            log.error("capture_order_unusable", detail=error.detail)  # noqa: TRY400  the detail says it all
        if (order is None) != (self._order is None):
            log.warning("capture_changed", is_on=order is not None, auditor=order.auditor if order else None)
        self._order = order

    def begin(self) -> list[bytes] | None:
        """Return where an answer is to be copied to, or `None` while nothing is captured."""
        order = self._order
        return [] if order is not None and order.holds(datetime.now(UTC)) else None

    def keep(self, admission: Admission, request: bytes, answer: list[bytes]) -> None:
        """Seal an exchange and append it to the day's file."""
        order = self._order
        if order is None:  # it was switched off meanwhile: what was begun is forgotten
            return
        if self._waiting >= _MOST_WAITING:
            log.error("capture_lost", request_id=admission.request_id, reason="too many exchanges wait for the disk")
            return
        self._waiting += 1
        done = self._thread.submit(self._write, order, admission, request, b"".join(answer))
        done.add_done_callback(self._count_down)

    def close(self) -> None:
        """Write what is queued and stop."""
        self._thread.shutdown()

    def _count_down(self, _: object) -> None:
        self._waiting -= 1

    def _write(self, order: CaptureOrder, admission: Admission, request: bytes, answer: bytes) -> None:
        captured = Captured(
            request_id=admission.request_id,
            at=at_text(admission.admitted_at),
            team=admission.team,
            key_id=admission.key_id,
            endpoint=admission.endpoint,
            request=_without_salt(request),
            answer=answer.decode("utf-8", "replace"),
        )
        try:
            line = seal(captured, auditor_key(order.auditor_pem.encode())) + b"\n"
            self._append(self._folder / f"{admission.admitted_at:%Y-%m-%d}.jsonl", line)
        except (OSError, LeewardError) as error:
            log.error("capture_lost", request_id=admission.request_id, reason=str(error))  # noqa: TRY400  the same

    def _append(self, path: Path, line: bytes) -> None:
        self._folder.mkdir(mode=0o2750, exist_ok=True)
        room = os.statvfs(self._folder)
        if room.f_bavail * room.f_frsize < LEAST_ROOM_BYTES:
            raise OSError(ENOSPC, "the ledger needs what room is left")
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            while line:
                line = line[os.write(file, line) :]
        finally:
            os.close(file)


def _without_salt(request: bytes) -> str:
    """Return what the engine was asked without the secret of its cache, which is nobody's to keep."""
    plain = json.loads(request)
    if isinstance(plain, dict):
        plain.pop("cache_salt", None)
    return json.dumps(plain, ensure_ascii=False)
