from __future__ import annotations

import pytest

from appliance.adapters.ansible.translation import MAX_MESSAGE_CHARACTERS, Translation
from appliance.domain.events import Event, LogLine, Progressed, TaskFinished, TaskOutcome


def finished(translation: Translation, kind: str, **data: object) -> list[Event]:
    return list(translation.events({"event": kind, "event_data": {"role": "base", "task": "It is there", **data}}))


def test_an_unreachable_node_is_a_failure_with_its_reason() -> None:
    translation = Translation(total=1)

    events = finished(translation, "runner_on_unreachable", host="n1", res={"msg": "no route to host"})
    list(translation.events({"event": "playbook_on_stats", "event_data": {"dark": {"n1": 1}}}))

    assert isinstance(events[0], TaskFinished)
    assert events[0].outcome is TaskOutcome.FAILED
    assert translation.failure is not None
    assert translation.failure.message == "no route to host"
    assert translation.result().failed == 1


def test_a_failed_loop_speaks_with_the_words_of_its_first_failed_item() -> None:
    items = [{"msg": "fine"}, {"failed": True, "msg": "disk full"}, {"failed": True, "msg": "later"}]

    events = finished(
        Translation(total=1), "runner_on_failed", res={"msg": "One or more items failed", "results": items}
    )

    assert events[1] == LogLine(text="base: It is there: disk full")


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    said = f"begin {'x' * 5000} end"

    events = finished(Translation(total=1), "runner_on_failed", res={"msg": said})

    assert isinstance(events[1], LogLine)
    assert "begin" in events[1].text
    assert events[1].text.endswith("end")
    assert len(events[1].text) < MAX_MESSAGE_CHARACTERS + 60


@pytest.mark.parametrize("listed", [0, 1, 5])
def test_progress_never_passes_its_total_whatever_was_listed(listed: int) -> None:
    translation = Translation(total=listed)
    events = [
        event
        for number in range(3)
        for event in translation.events({"event": "playbook_on_task_start", "event_data": {"task": f"t{number}"}})
    ]
    events += translation.events({"event": "playbook_on_stats", "event_data": {"ok": {"n1": 3}}})

    progress = [event for event in events if isinstance(event, Progressed)]
    assert all(event.done <= event.total for event in progress)
    assert (progress[-1].done, progress[-1].total) == (3, 3)


def test_statistics_are_summed_over_nodes() -> None:
    translation = Translation(total=0)

    list(
        translation.events(
            {"event": "playbook_on_stats", "event_data": {"ok": {"a": 2, "b": 3}, "ignored": {"a": 1}, "playbook": "x"}}
        )
    )

    assert (translation.result().ok, translation.result().ignored) == (5, 1)


def test_verbose_output_means_nothing() -> None:
    assert list(Translation(total=0).events({"event": "verbose", "stdout": "PLAY [x]"})) == []
