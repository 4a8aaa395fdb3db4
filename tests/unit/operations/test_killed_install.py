"""An install that is killed at any event ends well in the daemon's next life, and leaves one trail."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from appliance.adapters.sql import SqlJournal
from appliance.domain.audit import first_broken
from appliance.domain.events import Event, EventRecord, StepFinished
from appliance.domain.operation import OperationId, OperationKind, OperationRequest, OperationState, StepName
from tests.unit.operations.node import TwinNode
from tests.unit.operations.test_install import ACTOR, SLOT, STATEMENT


class Killed(BaseException):
    """The process is gone: nothing after this line happens."""


class DyingJournal(SqlJournal):
    """Dies instead of storing the n-th event, or just after it has stored it."""

    lives: int = 10_000
    is_stored: bool = False

    def append(self, operation_id: OperationId, event: Event, at: datetime) -> EventRecord:
        DyingJournal.lives -= 1
        if DyingJournal.lives == 0:
            if self.is_stored:
                super().append(operation_id, event, at)
            raise Killed
        if DyingJournal.lives < 0:
            raise Killed
        return super().append(operation_id, event, at)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("is_stored", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("instant", [2, 3, 20, 35, 36, 37, 38, 40, 42, 44, 46, 48, 50, 51, 53, 55])
def test_killed_at_an_event_an_install_ends_well_in_the_next_life(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    instant: int,
    is_stored: bool,  # noqa: FBT001  a parameter of pytest
) -> None:
    node = TwinNode(tmp_path)
    request = OperationRequest(
        kind=OperationKind.INSTALL, parameters={"medium": str(node.medium), "attestation": STATEMENT}
    )
    with monkeypatch.context() as dying:
        DyingJournal.lives, DyingJournal.is_stored = instant, is_stored
        dying.setattr("appliance.wiring.parts.SqlJournal", DyingJournal)
        with node.daemon() as management:
            operation_id = management.operations.start(request, ACTOR).id
            management.operations.join(30)
            finished = _finished(management.operations.records(operation_id))

    with node.daemon() as management:
        management.operations.resume()
        assert management.operations.join(30)
        view = management.operations.view(operation_id)

        assert view.error is None
        assert view.state is OperationState.SUCCEEDED
        assert management.identity.slot() == SLOT
        assert all(key.revoked_at for key in management.keys.list())
        entries = management.audit.entries()
        assert first_broken(entries) is None
        assert Counter((e.action, e.outcome) for e in entries)["install", "succeeded"] == 1
        assert len(management.licenses.attestations()) == 1
        again = _finished(management.operations.records(operation_id))
        assert Counter(again).most_common(1)[0][1] == 1  # no step that had finished ran again
        assert set(finished) <= set(again)


def _finished(records: list[EventRecord]) -> list[StepName]:
    return [record.event.step for record in records if isinstance(record.event, StepFinished)]
