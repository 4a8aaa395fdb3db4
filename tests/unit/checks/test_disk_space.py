from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.checks import disk_space
from appliance.domain.errors import PreflightBlocked
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Outcome
from appliance.services import preflight
from tests.nodes import node
from tests.unit.checks.releases import CUDA, GB

NEEDED_FOR_STATE = (70 + 64 + 4 + 1 + 70 + 2) * GB
NEEDED_FOR_PROGRAMS = (4 * 4 + 2) * GB


def with_free(*, state: int, programs: int, shared: bool = False) -> NodeFacts:
    facts = node("four-h200")
    free = {disk_space.STATE: state, disk_space.PROGRAMS: programs}
    return replace(
        facts,
        filesystems=tuple(
            replace(f, free_bytes=free.get(f.path, f.free_bytes), device="8:1" if shared else f.device)
            for f in facts.filesystems
        ),
    )


def test_exactly_enough_room_is_enough_and_a_byte_less_is_not() -> None:
    enough = with_free(state=NEEDED_FOR_STATE, programs=NEEDED_FOR_PROGRAMS)
    state_short = with_free(state=NEEDED_FOR_STATE - 1, programs=NEEDED_FOR_PROGRAMS)
    programs_short = with_free(state=NEEDED_FOR_STATE, programs=NEEDED_FOR_PROGRAMS - 1)

    assert disk_space.evaluate(enough, CUDA).outcome is Outcome.PASS
    assert disk_space.evaluate(state_short, CUDA).outcome is Outcome.FAIL
    assert disk_space.evaluate(programs_short, CUDA).outcome is Outcome.FAIL


def test_needs_on_one_device_are_added_up() -> None:
    room = NEEDED_FOR_STATE + NEEDED_FOR_PROGRAMS - 2 * GB

    assert disk_space.evaluate(with_free(state=room, programs=room, shared=True), CUDA).outcome is Outcome.PASS
    assert disk_space.evaluate(with_free(state=room - 1, programs=room - 1, shared=True), CUDA).blocking


def test_what_the_store_already_holds_needs_no_second_room() -> None:
    nearly_full = with_free(state=3 * GB, programs=NEEDED_FOR_PROGRAMS)
    held = frozenset(file.sha256 for file in CUDA.files)

    assert disk_space.evaluate(nearly_full, CUDA).blocking
    assert disk_space.evaluate(replace(nearly_full, stored_sha256=held), CUDA).outcome is Outcome.PASS


def test_the_current_slots_environments_need_no_second_room() -> None:
    held = frozenset(file.sha256 for file in CUDA.files)
    serving = replace(with_free(state=3 * GB, programs=3 * GB), stored_sha256=held)

    assert disk_space.evaluate(serving, CUDA).blocking
    assert disk_space.evaluate(replace(serving, current_slot=CUDA.slot), CUDA).outcome is Outcome.PASS


def test_files_of_equal_content_are_counted_once() -> None:
    twice = replace(CUDA, files=(*CUDA.files, replace(CUDA.files[0], path="weights/again")))
    enough_for_one = with_free(state=NEEDED_FOR_STATE, programs=NEEDED_FOR_PROGRAMS)

    assert disk_space.evaluate(enough_for_one, twice).outcome is Outcome.PASS


def test_room_that_nobody_observed_is_unknown_and_only_warned_of() -> None:
    finding = disk_space.evaluate(replace(node("four-h200"), filesystems=()), CUDA)

    assert (finding.outcome, finding.observed) == (Outcome.WARN, "unknown")


def test_a_blocked_preflight_names_every_cause_and_every_remedy() -> None:
    facts = replace(node("wrong-python"), architecture="riscv64")

    with pytest.raises(PreflightBlocked) as caught:
        preflight.require_passable(preflight.evaluate(facts, CUDA))

    assert "python: found 3.13.1" in caught.value.detail
    assert "architecture: found riscv64" in caught.value.detail
    assert "python3-venv" in caught.value.remedy


def test_a_passable_preflight_raises_nothing() -> None:
    preflight.require_passable(preflight.evaluate(node("odd-route"), CUDA))
