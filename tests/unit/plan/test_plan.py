"""A plan before a change: made without one, approved by another, and refused once its facts have moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appliance.adapters.plans import PlanFolder
from appliance.config import Paths, PlanSettings, Settings
from appliance.domain.errors import NotFound, NotPermitted, PlaybookFailed, StateUnusable
from appliance.domain.events import PlanAccepted
from appliance.domain.operation import Actor, OperationKind, OperationRequest, OperationState, StepName
from appliance.domain.plan import PlannedTask, Prediction, estimate, facts_that_count
from appliance.domain.projection import OperationView
from appliance.domain.restart import RestartReason
from appliance.ports import Emit, IsCanceled, PlayRequest
from appliance.services.management import Management
from tests.unit.operations.node import TwinNode, TwinPlaybooks, fit_facts
from tests.unit.operations.test_install import SLOT, audited, install, run
from tests.unit.operations.world import until

PLANNER, OTHER = Actor(name="j.doe", uid=1000), Actor(name="a.smith", uid=1001)
TASKS = (
    PlannedTask(role="base", task="Base packages are present", prediction=Prediction.CHANGES, detail="+ nftables"),
    PlannedTask(role="base", task="Groups exist", prediction=Prediction.UNCHANGED),
    PlannedTask(role="engine_vllm", task="Wheels", prediction=Prediction.NOT_PREDICTABLE, detail="a command"),
)


@dataclass
class TryingPlaybooks(TwinPlaybooks):
    """Predicts what a test says, and remembers that it was asked to try and not to do."""

    predicts: Callable[[PlayRequest], tuple[PlannedTask, ...]] = lambda _request: TASKS
    tries: int = 0

    def predict(self, request: PlayRequest, *, emit: Emit, is_canceled: IsCanceled) -> tuple[PlannedTask, ...]:
        del emit, is_canceled
        self.tries += 1
        return self.predicts(request)


@dataclass
class PlanningNode(TwinNode):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.playbooks: TryingPlaybooks = TryingPlaybooks()


@pytest.fixture
def node(tmp_path: Path) -> PlanningNode:
    return PlanningNode(tmp_path)


def planned(management: Management, node: PlanningNode) -> str:
    run(management, OperationKind.IMPORT, medium=str(node.medium))
    view = run(management, OperationKind.PLAN)
    assert view.state is OperationState.SUCCEEDED, view.error
    return view.plan


def provision(management: Management, **parameters: str) -> OperationView:
    return run(management, OperationKind.PROVISION, **parameters)


def test_a_plan_is_made_without_a_play_and_says_what_would_change(node: PlanningNode) -> None:
    with node.daemon() as management:
        digest = planned(management, node)
        record = management.plans.show(digest)

        assert record.plan.tasks == TASKS
        assert (record.plan.basis.slot, record.plan.made_by, record.approved_by) == (SLOT, "j.doe", "")
        assert record.plan.consequences[0] == f"release {SLOT} becomes current in place of none"
        assert record.plan.digest == digest
        assert node.playbooks.tries == 1
        assert node.playbooks.plays == []
        assert management.identity.slot() is None


def test_a_node_that_the_play_would_refuse_gets_no_plan(node: PlanningNode) -> None:
    def refuse(_request: PlayRequest) -> tuple[PlannedTask, ...]:
        raise PlaybookFailed(detail="role base: too small", remedy="Look.")

    node.playbooks.predicts = refuse
    with node.daemon() as management:
        run(management, OperationKind.IMPORT, medium=str(node.medium))
        view = run(management, OperationKind.PLAN)

        assert view.error is not None
        assert view.error.code == "playbook-failed"
        assert view.plan == ""


def test_an_operation_goes_by_a_plan_that_holds_and_says_so(node: PlanningNode) -> None:
    with node.daemon() as management:
        digest = planned(management, node)

        view = provision(management, plan=digest)

        assert view.state is OperationState.SUCCEEDED
        assert view.plan == digest
        assert management.identity.slot() == SLOT


def test_a_plan_whose_facts_moved_is_refused_with_their_names_and_nothing_is_played(node: PlanningNode) -> None:
    with node.daemon() as management:
        digest = planned(management, node)
        node.probe.seen = replace(node.probe.seen, kernel="6.1.0-99-amd64", secure_boot=True)

        view = provision(management, plan=digest)

        assert view.error is not None
        assert view.error.code == "plan-outdated"
        assert "kernel: was " in view.error.detail
        assert ", is 6.1.0-99-amd64" in view.error.detail
        assert "Secure Boot: was " in view.error.detail
        assert "architecture" not in view.error.detail
        assert node.playbooks.plays == []
        assert management.identity.slot() is None


def test_a_plan_for_another_release_is_refused(node: PlanningNode) -> None:
    with node.daemon() as management:
        digest = planned(management, node)
        run(management, OperationKind.IMPORT, medium=str(node.newer_medium()))

        view = provision(management, plan=digest)

        assert view.error is not None
        assert f"release: was {SLOT}, is 26.12.0-e2" in view.error.detail
        assert node.playbooks.plays == []


def test_an_install_by_a_plan_that_holds_goes_on(node: PlanningNode) -> None:
    with node.daemon() as management:
        digest = planned(management, node)

        view = install(management, node, plan=digest)

        assert view.state is OperationState.SUCCEEDED


def test_nobody_approves_a_plan_of_their_own_and_the_approval_of_another_is_audited_once(node: PlanningNode) -> None:
    with node.daemon() as management:
        digest = planned(management, node)

        with pytest.raises(NotPermitted):
            management.plans.approve(digest, PLANNER)
        assert "plan.approve approved" not in audited(management)
        management.plans.approve(digest, OTHER)
        record = management.plans.approve(digest, Actor(name="third", uid=1002))

        assert record.approved_by == "a.smith"
        assert audited(management).count("plan.approve approved") == 1


def test_a_site_that_asks_for_a_second_administrator_changes_nothing_without_one(node: PlanningNode) -> None:
    with node.daemon() as management:
        digest = planned(management, node)
        strict = replace(management.plans, needs_approval=True)
        management.operations._steps[StepName.PROVISION]._plans = strict  # type: ignore[attr-defined]  # wiring's value

        codes = [
            view.error.code if view.error else ""
            for view in (provision(management), provision(management, plan=digest))
        ]
        assert codes == ["plan-not-approved", "plan-not-approved"]
        assert node.playbooks.plays == []

        management.plans.approve(digest, OTHER)
        assert provision(management, plan=digest).state is OperationState.SUCCEEDED


def test_the_sites_decision_is_read_from_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "etc/leeward").mkdir(parents=True)
    (tmp_path / "etc/leeward/leeward.toml").write_text("[plan]\nsecond_admin = true\n")

    assert Settings.load(tmp_path).plan == PlanSettings(second_admin=True)
    assert Settings(node_name="n", paths=Paths()).plan.second_admin is False


def test_an_operation_that_a_restart_cut_off_goes_on_though_it_has_changed_the_node_itself(node: PlanningNode) -> None:
    node.boot.why = (RestartReason(name="nouveau", text="nouveau holds the GPUs", at_console=False),)
    with node.daemon() as management:
        digest = planned(management, node)
        request = OperationRequest(kind=OperationKind.PROVISION, parameters={"plan": digest})
        operation_id = management.operations.start(request, PLANNER).id
        until(lambda: node.units.reboots == 1)
    node.boot.again()
    node.probe.seen = replace(node.probe.seen, kernel="6.1.0-99-amd64")

    with node.daemon() as management:
        management.operations.resume()
        assert management.operations.join(30)

        view = management.operations.view(operation_id)
        records = management.operations.records(operation_id)
        assert view.state is OperationState.SUCCEEDED, view.error
        assert sum(isinstance(record.event, PlanAccepted) for record in records) == 1


def test_a_plan_that_was_written_over_or_never_made_is_not_shown(node: PlanningNode) -> None:
    with node.daemon() as management:
        digest = planned(management, node)
        file = node.paths.data / f"state/plans/{digest}.json"
        file.write_bytes(file.read_bytes().replace(b"+ nftables", b"+ anything"))

        with pytest.raises(StateUnusable):
            management.plans.show(digest)
        for unknown in ("0" * 64, "../leeward", digest[:12]):
            with pytest.raises(NotFound):
                PlanFolder(file.parent).plan(unknown)


def test_the_estimate_takes_this_nodes_own_times_before_those_of_the_table() -> None:
    guess = estimate(TASKS, {("engine_vllm", "Wheels"): [100.0, 300.0, 101.0]})

    assert (guess.recorded_tasks, guess.tabled_tasks) == (1, 2)
    assert 101 < guess.seconds < 150


def test_what_moves_by_itself_does_not_make_a_plan_old() -> None:
    facts = fit_facts()
    later = replace(facts, memory_available_bytes=1, listening_tcp_ports=frozenset({1}), filesystems=())

    assert facts_that_count(later) == facts_that_count(facts)
