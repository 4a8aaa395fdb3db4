"""An uninstallation: what a person must say, what is asked of the play, and what stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.domain.errors import RequestInvalid
from appliance.domain.operation import OperationKind, OperationState
from appliance.domain.removal import Removal, records_sentence
from tests.unit.operations.node import TwinNode, break_down
from tests.unit.operations.test_install import SLOT, audited, install, run

NODE = {"node": "llm01"}


@pytest.fixture
def node(tmp_path: Path) -> TwinNode:
    return TwinNode(tmp_path)


def with_play(node: TwinNode) -> None:
    playbooks = node.paths.slots / SLOT / "playbooks"
    playbooks.mkdir(exist_ok=True)
    (playbooks / "uninstall.yml").write_text("")


def test_packages_go_and_driver_and_records_stay_unless_it_is_said_otherwise() -> None:
    assert Removal.of(NODE, node="llm01") == Removal(packages=True, drivers=False, records=False)

    asked = Removal.of(
        {**NODE, "packages": "keep", "drivers": "remove", "records": records_sentence("llm01")}, node="llm01"
    )

    assert asked == Removal(packages=False, drivers=True, records=True)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"node": "llm02"}, "this is 'llm01'"),
        ({**NODE, "records": "yes"}, "'delete the records of llm01'"),
        ({**NODE, "drivers": "all"}, "neither keep nor remove"),
    ],
)
def test_words_that_do_not_name_this_node_or_mean_nothing_are_refused(parameters: dict[str, str], told: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        Removal.of(parameters, node="llm01")

    assert told in refused.value.detail


def test_the_play_of_the_current_release_is_run_and_the_end_is_audited(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        with_play(node)

        view = run(management, OperationKind.UNINSTALL, **NODE)

        assert view.state is OperationState.SUCCEEDED
        play = node.playbooks.plays[-1]
        assert (play.playbook, play.playbooks) == ("uninstall.yml", node.paths.slots / SLOT / "playbooks")
        assert play.variables == {
            "base_uninstall_packages": True, "base_uninstall_drivers": False, "base_uninstall_records": False,
        }  # fmt: skip
        assert audited(management)[-2:] == ["uninstall started", "uninstall succeeded"]
    assert node.paths.ledger.exists()


def test_a_wrong_name_runs_no_play_and_removes_nothing(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        with_play(node)
        plays = len(node.playbooks.plays)

        view = run(management, OperationKind.UNINSTALL, node="another")

        assert view.error is not None
        assert view.error.code == "request-invalid"
        assert len(node.playbooks.plays) == plays
        assert management.identity.slot() == SLOT


def test_a_release_that_cannot_remove_itself_is_left_alone(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        plays = len(node.playbooks.plays)

        view = run(management, OperationKind.UNINSTALL, **NODE)

        assert view.error is not None
        assert view.error.code == "not-found"
        assert len(node.playbooks.plays) == plays


def test_a_failed_play_fails_the_operation_and_can_be_run_again(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        with_play(node)
        node.playbooks.act = break_down
        failed = run(management, OperationKind.UNINSTALL, **NODE)
        node.playbooks.act = lambda _request: None

        again = run(management, OperationKind.UNINSTALL, **NODE)

        assert failed.state is OperationState.FAILED
        assert again.state is OperationState.SUCCEEDED
