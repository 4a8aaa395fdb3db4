"""A restart in the middle of an operation: asked for once, survived, and never asked for in vain twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from appliance.adapters.host.boot import BootFiles
from appliance.domain.errors import StateUnusable
from appliance.domain.events import RestartNeeded, StepFinished
from appliance.domain.operation import OperationId, OperationKind, OperationRequest, OperationState, StepName
from appliance.domain.projection import OperationView
from appliance.domain.restart import RestartReason
from appliance.services.management import Management
from tests.unit.operations.node import TwinNode
from tests.unit.operations.test_install import ACTOR, SLOT, STATEMENT
from tests.unit.operations.world import until

NOUVEAU = RestartReason(name="nouveau", text="nouveau holds the GPUs", at_console=False)
KEY = RestartReason(name="secure-boot", text="confirm the key in MokManager", at_console=True)


@pytest.fixture
def node(tmp_path: Path) -> TwinNode:
    node = TwinNode(tmp_path)
    node.boot.why = (NOUVEAU,)
    return node


@pytest.fixture
def waiting(node: TwinNode) -> OperationId:
    """An install that has asked for a restart; the daemon has been stopped by it."""
    with node.daemon() as management:
        operation_id = start(node, management)
        until(lambda: node.units.reboots == 1)
    return operation_id


def start(node: TwinNode, management: Management) -> OperationId:
    parameters = {"medium": str(node.medium), "attestation": STATEMENT}
    return management.operations.start(OperationRequest(kind=OperationKind.INSTALL, parameters=parameters), ACTOR).id


def resumed(management: Management, operation_id: OperationId) -> OperationView:
    management.operations.resume()
    assert management.operations.join(30)
    return management.operations.view(operation_id)


def test_an_operation_goes_on_after_the_restart_and_only_then_is_the_release_current(
    node: TwinNode, waiting: OperationId
) -> None:
    node.boot.again()

    with node.daemon() as management:
        before = management.identity.slot()
        view = resumed(management, waiting)
        finished = [r.event.step for r in management.operations.records(waiting) if isinstance(r.event, StepFinished)]

        assert before is None
        assert view.state is OperationState.SUCCEEDED
        assert management.identity.slot() == SLOT
    assert view.step(StepName.REBOOT).summary.startswith("restarted; ")
    assert len(finished) == len(set(finished))
    assert (node.units.reboots, len(node.playbooks.plays)) == (1, 2)


def test_an_install_that_needs_no_restart_makes_none(node: TwinNode) -> None:
    node.boot.why = ()

    with node.daemon() as management:
        operation_id = start(node, management)
        assert management.operations.join(30)
        view = management.operations.view(operation_id)

    assert view.state is OperationState.SUCCEEDED
    assert view.step(StepName.REBOOT).summary == "not needed"
    assert (node.units.reboots, len(node.playbooks.plays)) == (0, 1)


def test_a_restart_that_did_not_help_is_not_repeated(node: TwinNode, waiting: OperationId) -> None:
    node.boot.again(NOUVEAU)

    with node.daemon() as management:
        view = resumed(management, waiting)

        assert management.identity.slot() is None
    assert view.state is OperationState.FAILED
    assert view.error is not None
    assert view.error.code == "restart-in-vain"
    assert "nouveau" in view.error.detail
    assert node.units.reboots == 1


def test_a_daemon_killed_before_the_node_went_down_asks_again_in_the_same_boot(
    node: TwinNode, waiting: OperationId
) -> None:
    with node.daemon() as management:
        management.operations.resume()
        until(lambda: node.units.reboots == 2)
        needs = [r for r in management.operations.records(waiting) if isinstance(r.event, RestartNeeded)]

    assert len(needs) == 1
    assert len(node.playbooks.plays) == 1


class PowerLostError(BaseException):
    """Nothing after this line happens."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_power_cut_between_the_play_and_the_restart_counts_as_the_restart(node: TwinNode) -> None:
    """The journal holds the need; systemd was never asked."""

    def lose_power(_unit: str) -> None:
        node.units.reboots += 1
        raise PowerLostError

    node.units.start = lose_power  # type: ignore[method-assign]  # this node loses its power here
    with node.daemon() as management:
        operation_id = start(node, management)
        until(lambda: node.units.reboots == 1)
        assert management.operations.join(10)
        assert management.operations.view(operation_id).state is OperationState.RUNNING
    node.boot.again()

    with node.daemon() as management:
        assert resumed(management, operation_id).state is OperationState.SUCCEEDED

    assert len(node.playbooks.plays) == 2


def test_another_reason_after_the_first_restart_gets_one_of_its_own(node: TwinNode, waiting: OperationId) -> None:
    kernel = RestartReason(name="kernel", text="another kernel runs", at_console=False)
    node.boot.again(kernel)
    with node.daemon() as management:
        management.operations.resume()
        until(lambda: node.units.reboots == 2)
    node.boot.again()

    with node.daemon() as management:
        assert resumed(management, waiting).state is OperationState.SUCCEEDED

    assert node.units.reboots == 2


def test_where_a_person_is_needed_at_the_console_the_step_says_so_and_waits(node: TwinNode) -> None:
    node.boot.why = (KEY,)
    with node.daemon() as management:
        operation_id = start(node, management)
        until(lambda: any("MokManager" in line for line in management.operations.view(operation_id).log))
        time.sleep(0.1)
        assert management.operations.view(operation_id).state is OperationState.RUNNING
    node.boot.again()

    with node.daemon() as management:
        assert resumed(management, operation_id).state is OperationState.SUCCEEDED

    assert node.units.reboots == 0


def test_reasons_are_read_from_files_and_a_broken_one_is_named(tmp_path: Path) -> None:
    boot = BootFiles(tmp_path / "reasons")
    none = boot.reasons()
    (tmp_path / "reasons").mkdir()
    (tmp_path / "reasons/nouveau").write_text('{"reason": "nouveau holds the GPUs", "at_console": false}\n')

    assert none == ()
    assert boot.reasons() == (NOUVEAU,)
    assert len(boot.boot_id()) == 36
    (tmp_path / "reasons/kernel").write_text("half a fi")
    with pytest.raises(StateUnusable, match="reasons/kernel"):
        boot.reasons()
