"""`leeward passport`: the page or JSON, and the exit status that says who must act."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from appliance.domain.acceptance import PassportView, views
from appliance.domain.operation import OperationKind, StepName
from appliance.domain.wire import from_plain, to_plain
from appliance.entrypoints.cli import acceptance as verbs
from console.render.operation import DOING, HARM, STEP_NAMES
from tests.unit.acceptance.made import figure, passport

WORSE = views([passport(1, figure("memory", 100)), passport(2, figure("memory", 50))])
SAME = views([passport(1, figure("memory", 100)), passport(2, figure("memory", 100))])


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[PassportView]:
    """What the daemon answers."""
    answer: list[PassportView] = []
    monkeypatch.setattr(verbs, "call", lambda _ask: tuple(answer))
    return answer


def test_a_passport_survives_the_wire() -> None:
    plain = json.loads(json.dumps(to_plain(WORSE)))

    assert from_plain(plain, tuple[PassportView, ...]) == WORSE


def test_the_newest_passport_is_shown_and_a_loss_is_exit_status_3(known: list[PassportView]) -> None:
    known.extend(WORSE)

    said = CliRunner().invoke(verbs.passport, [], standalone_mode=False)

    assert said.return_value == 3
    assert said.output.count("CAPACITY PASSPORT") == 1
    assert "WORSE: memory of CPU: 50 GB/s, before 100 (50% worse" in said.output


def test_all_passports_are_shown_when_asked_and_no_loss_is_exit_status_0(known: list[PassportView]) -> None:
    known.extend(SAME)

    said = CliRunner().invoke(verbs.passport, ["--all", "--json"], standalone_mode=False)

    assert said.return_value == 0
    assert [json.loads(line)["passport"]["id"] for line in said.output.splitlines()] == ["op-2", "op-1"]


def test_a_node_without_a_passport_says_how_to_get_one(known: list[PassportView]) -> None:
    assert known == []

    said = CliRunner().invoke(verbs.passport, [], standalone_mode=False)

    assert (said.return_value, "leeward acceptance" in said.output) == (0, True)


def test_the_console_has_a_word_for_every_operation_and_step() -> None:
    assert set(DOING) == set(OperationKind)
    assert set(STEP_NAMES) == set(HARM) == set(StepName)
