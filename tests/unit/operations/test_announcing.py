"""Progress reaches the journal at 4 Hz at most; nothing else is held back."""

from __future__ import annotations

from appliance.domain.events import Event, LogLine, Progressed, StepFinished, Unit
from appliance.domain.operation import StepName
from appliance.services.announcing import Announcer


def progressed(done: int) -> Progressed:
    return Progressed(step=StepName.IMPORT, label="weights", done=done, total=1000, unit=Unit.BYTES)


def test_a_thousand_figures_in_one_second_become_four_and_the_last() -> None:
    stored: list[Event] = []
    now_s = iter([n / 1000 for n in range(1000)])
    announce = Announcer(stored.append, lambda: next(now_s))

    for done in range(1000):
        announce(progressed(done))
    announce(StepFinished(step=StepName.IMPORT, summary="imported"))

    assert stored[:-2] == [progressed(0), progressed(250), progressed(500), progressed(750)]
    assert stored[-2:] == [progressed(999), StepFinished(step=StepName.IMPORT, summary="imported")]


def test_other_events_are_stored_as_they_come() -> None:
    stored: list[Event] = []
    announce = Announcer(stored.append, lambda: 0.0)

    for number in range(100):
        announce(LogLine(text=str(number)))

    assert len(stored) == 100
