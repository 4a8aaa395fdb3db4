"""Steps `collect` and `sign` of an evidence export; what they do is in `services.exports`."""

from __future__ import annotations

from pathlib import Path

from appliance.domain.events import EvidenceWritten
from appliance.services.exports import EvidenceExports
from appliance.services.steps import StepContext


class CollectStep:
    """Gathers the evidence into a work folder of this operation. Raises LedgerUnavailable, Canceled."""

    def __init__(self, exports: EvidenceExports) -> None:
        self._exports = exports

    def run(self, context: StepContext) -> str:
        """Collect, anew when run again."""
        collected = self._exports.collect(context.operation_id, at=context.started_at, is_canceled=context.is_canceled)
        return collected.summary


class SignStep:
    """Signs what was collected into the folder that was asked for. Raises RequestInvalid, StoreFull, Canceled."""

    def __init__(self, exports: EvidenceExports) -> None:
        self._exports = exports

    def run(self, context: StepContext) -> str:
        """Sign, or name the bundle that a killed run has signed."""
        signed = self._exports.sign(
            context.operation_id,
            Path(context.parameters["destination"]),
            actor=context.actor,
            at=context.started_at,
            is_canceled=context.is_canceled,
        )
        context.emit(EvidenceWritten(bundle=str(signed.folder), root_fingerprint=signed.root_fingerprint))
        return f"signed evidence lies in {signed.folder}"
