"""Steps: what an operation is made of.

A step may be run again after a kill at any instant: it finishes what its last run began, or does it
anew, and changes nothing where all is done. It asks `is_canceled` between two safe points and
raises Canceled when that is so. Its summary is one line for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from appliance.domain.errors import Canceled
from appliance.domain.operation import Actor, OperationId, OperationKind
from appliance.ports import Emit, IsCanceled


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a step knows of its operation; `started_at` stays the same when the step runs again."""

    operation_id: OperationId
    kind: OperationKind
    parameters: Mapping[str, str]
    actor: Actor
    started_at: datetime
    emit: Emit
    is_canceled: IsCanceled

    def stop_if_canceled(self) -> None:
        """Mark a safe point: raises Canceled when someone asked to stop."""
        if self.is_canceled():
            raise Canceled(
                detail=f"Operation {self.operation_id} was asked to stop.",
                remedy="Nothing is needed; start the operation again when it suits.",
            )


class Step(Protocol):
    """One visible unit of work, safe to run again. Raises LeewardError."""

    def run(self, context: StepContext) -> str:
        """Do the work to its end and return its summary."""
        ...


@runtime_checkable
class UndoableStep(Step, Protocol):
    """A step that takes something from the node for a while."""

    def undo(self, context: StepContext) -> None:
        """Give back what is still taken. Called where an operation in which the step began does not succeed.

        It may be called again, and after steps that have given it back already. Raises LeewardError.
        """
        ...
