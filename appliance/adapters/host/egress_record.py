"""The egress record as one small JSON file, replaced as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import structlog
from cattrs import BaseValidationError

from appliance.adapters.durable import write_whole
from appliance.domain.egress import EgressRecord
from appliance.domain.errors import StateUnusable
from appliance.domain.wire import from_plain, to_plain

log = structlog.get_logger()


class EgressRecordFile:
    """`services.egress.EgressStore` at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> EgressRecord | None:
        """Return the record. A damaged file is set aside under another name, and the count begins anew."""
        try:
            return from_plain(json.loads(self._path.read_bytes()), EgressRecord)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, BaseValidationError) as error:
            self._path.rename(self._path.with_suffix(".damaged"))
            log.error("egress_record_damaged", path=str(self._path), error=str(error))  # noqa: TRY400  no defect of ours
            return None

    def save(self, record: EgressRecord) -> None:
        """Write the record beside its place and move it there, durable when this returns. Raises StateUnusable."""
        try:
            write_whole(self._path, json.dumps(to_plain(record)).encode())
        except OSError as error:
            raise StateUnusable(
                detail=f"{self._path} cannot be written: {error}",
                remedy="Make room on the disk of /var/lib/leeward, or look at its health.",
            ) from error
