"""An acceptance on a node of twins: what stops, what starts again, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.domain.acceptance import CPU_NOTICE, BurnInResult, Diagnosis, Figure
from appliance.domain.errors import BurnInFailed, Canceled, RequestInvalid
from appliance.domain.events import CancelRequested, Event, OperationStarted, StepFinished, StepStarted, UnitStopped
from appliance.domain.operation import STEPS, OperationId, OperationKind, OperationRequest, OperationState, StepName
from appliance.ports import IsCanceled
from appliance.services.management import Management
from bundles.release import Device
from tests.unit.acceptance.made import burn_in, figure
from tests.unit.operations.node import TwinNode
from tests.unit.operations.test_install import ACTOR, SLOT, audited, install, run
from tests.unit.operations.world import until

ENGINE = "leeward-engine.service"


@dataclass
class TwinBurnIn:
    """Says what a test wants, and looks whether the engine runs meanwhile."""

    node: TwinNode
    says: BurnInResult = field(default_factory=lambda: burn_in(figure("memory", 10)))
    engine_while_it_ran: list[str] = field(default_factory=list)
    before: Callable[[IsCanceled], None] = lambda _: None

    def run(
        self, device: Device, *, duration_s: int, ranks: int, watch: Callable[[], None], is_canceled: IsCanceled
    ) -> BurnInResult:
        del device, ranks
        watch()
        self.engine_while_it_ran.append(self.node.units.active_state(ENGINE))
        self.before(is_canceled)
        return replace(self.says, duration_s=duration_s)

    def diagnose(self, *, level: int, is_canceled: IsCanceled) -> Diagnosis | None:
        del is_canceled
        raise AssertionError(f"level {level}: there is no GPU to diagnose")


@dataclass
class TwinLoad:
    rate: float = 100.0

    def measure(self, model: str, *, concurrency: int, is_canceled: IsCanceled) -> tuple[Figure, ...]:
        del is_canceled
        assert model == "small"
        return (figure("throughput", self.rate, subject=f"{concurrency} clients"),)


@pytest.fixture
def node(tmp_path: Path) -> TwinNode:
    node = TwinNode(tmp_path)
    node.burn_in = TwinBurnIn(node)
    node.load = TwinLoad()
    return node


def test_an_acceptance_stops_the_engine_measures_and_starts_it_again(node: TwinNode) -> None:
    assert isinstance(node.burn_in, TwinBurnIn)
    with node.daemon() as management:
        install(management, node)
        view = run(management, OperationKind.ACCEPTANCE, duration_s="7", concurrency="4")
        (found,) = management.passports.views()

        assert (view.error, view.state) == (None, OperationState.SUCCEEDED)
        assert node.burn_in.engine_while_it_ran == ["inactive"]
        assert node.units.active_state(ENGINE) == "active"
        assert (found.passport.slot, found.passport.id) == (SLOT, view.id)
        assert found.passport.burn_in.duration_s == 7
        assert found.passport.figures == (figure("memory", 10), figure("throughput", 100.0, subject="4 clients"))
        assert found.passport.notice.startswith(CPU_NOTICE)
        assert "SIMULATED" in found.passport.notice
        assert any(CPU_NOTICE in line for line in view.log)
        assert "passport.write succeeded" in audited(management)
        assert [path.suffix for path in (node.paths.data / "state/passports").iterdir()] == [".json"]


def test_nothing_is_stopped_on_a_node_that_serves_no_release(node: TwinNode) -> None:
    with node.daemon() as management:
        view = run(management, OperationKind.ACCEPTANCE)

        assert view.error is not None
        assert view.error.code == "engine-not-ready"
        assert node.units.restarts == []
        assert management.passports.views() == ()


def test_nothing_is_measured_while_another_release_waits_to_be_served(node: TwinNode) -> None:
    assert isinstance(node.burn_in, TwinBurnIn)
    with node.daemon() as management:
        install(management, node)
        run(management, OperationKind.IMPORT, medium=str(node.newer_medium()))
        view = run(management, OperationKind.ACCEPTANCE)

        assert view.error is not None
        assert "waits to be served" in view.error.detail
        assert node.burn_in.engine_while_it_ran == []


def test_a_burn_in_that_fails_starts_the_engine_again_and_leaves_no_passport(node: TwinNode) -> None:
    def fail(_is_canceled: IsCanceled) -> None:
        raise BurnInFailed(detail="the program exited 1: no CUDA", remedy="Look.")

    assert isinstance(node.burn_in, TwinBurnIn)
    node.burn_in.before = fail
    with node.daemon() as management:
        install(management, node)
        view = run(management, OperationKind.ACCEPTANCE)

        assert view.error is not None
        assert view.error.code == "burn-in-failed"
        assert node.units.active_state(ENGINE) == "active"
        assert management.passports.views() == ()


def test_a_device_that_computes_wrong_fails_the_acceptance(node: TwinNode) -> None:
    assert isinstance(node.burn_in, TwinBurnIn)
    node.burn_in.says = replace(node.burn_in.says, wrong=("GPU 2: gemm-bf16",))
    with node.daemon() as management:
        install(management, node)
        view = run(management, OperationKind.ACCEPTANCE)

        assert view.error is not None
        assert "GPU 2: gemm-bf16" in view.error.detail
        assert "systemctl stop leeward-engine" in view.error.remedy
        assert management.passports.views() == ()


def test_an_acceptance_that_a_stop_of_the_daemon_cut_goes_on_and_ends_with_one_passport(node: TwinNode) -> None:
    assert isinstance(node.burn_in, TwinBurnIn)
    with node.daemon() as management:
        install(management, node)
        begun = caught_in_the_burn_in(management, node.burn_in, OperationKind.ACCEPTANCE)
    assert node.units.active_state(ENGINE) == "active"

    node.burn_in.before = lambda _: None
    with node.daemon() as management:
        management.operations.resume()
        assert management.operations.join(30)
        view = management.operations.view(begun)

        assert (view.state, view.step(StepName.MEASURE).state.value) == (OperationState.SUCCEEDED, "succeeded")
        assert [found.passport.id for found in management.passports.views()] == [begun]


@pytest.mark.parametrize("begun", [0, 1, 2, 3], ids=["asked", "announced", "stopped", "start begun"])
def test_an_acceptance_canceled_between_a_kill_and_its_resumption_leaves_the_engine_running(
    node: TwinNode, begun: int
) -> None:
    """The daemon was killed just before it stopped the engine, just after it, and while `start` began."""
    assert isinstance(node.burn_in, TwinBurnIn)
    journal: tuple[Event, ...] = (
        StepStarted(step=StepName.BURN_IN),
        UnitStopped(unit=ENGINE),
        StepFinished(step=StepName.BURN_IN, summary="measured"),
        StepStarted(step=StepName.START),
    )
    with node.daemon() as management:
        install(management, node)
        operation_id = left_by_a_kill(management, *journal[: (0, 2, 3, 4)[begun]])
        if begun > 1:
            node.units.stop(ENGINE)
        starts = len(node.units.restarts)
    with node.daemon() as management:
        management.operations.resume()
        assert management.operations.join(30)
        view = management.operations.view(operation_id)

        assert view.state is OperationState.CANCELED
        assert node.units.active_state(ENGINE) == "active"
        assert len(node.units.restarts) - starts == (1 if begun > 1 else 0)
        assert node.burn_in.engine_while_it_ran == []
        assert management.passports.views() == ()


def test_an_engine_that_a_person_had_stopped_is_not_started_by_a_canceled_acceptance(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        node.units.stop(ENGINE)
        operation_id = left_by_a_kill(management, StepStarted(step=StepName.BURN_IN))
    with node.daemon() as management:
        management.operations.resume()
        assert management.operations.join(30)

        assert management.operations.view(operation_id).state is OperationState.CANCELED
        assert node.units.active_state(ENGINE) == "inactive"


def caught_in_the_burn_in(
    management: Management, burn_in: TwinBurnIn, kind: OperationKind, **parameters: str
) -> OperationId:
    """Start an operation and come back while its burn-in works; that ends when the operation is to stop."""

    def wait(is_canceled: IsCanceled) -> None:
        until(is_canceled)
        raise Canceled(detail="asked", remedy="None.")

    burn_in.before = wait
    begun = management.operations.start(OperationRequest(kind=kind, parameters=parameters), ACTOR)
    until(lambda: burn_in.engine_while_it_ran != [])
    return begun.id


def left_by_a_kill(management: Management, *journal: Event) -> OperationId:
    """Write what a killed daemon leaves of an acceptance whose cancel it had noted."""
    operations, operation_id, now = management.operations, OperationId("ff-killed"), datetime.now(UTC)
    store = operations._ports.journal
    store.create(operation_id, OperationRequest(kind=OperationKind.ACCEPTANCE, parameters={}), ACTOR, now)
    steps = STEPS[OperationKind.ACCEPTANCE]
    started = OperationStarted(kind=OperationKind.ACCEPTANCE, actor="j.doe", node="llm01", steps=steps)
    for event in (started, *journal, CancelRequested(actor="j.doe")):
        store.append(operation_id, event, now)
    return operation_id


def test_a_measured_install_loads_the_weights_once_and_ends_with_a_passport(node: TwinNode) -> None:
    assert isinstance(node.burn_in, TwinBurnIn)
    with node.daemon() as management:
        view = install(management, node, acceptance="true", duration_s="7")

        assert (view.error, view.state) == (None, OperationState.SUCCEEDED)
        assert [step.name.value for step in view.steps][-5:] == [
            "reboot", "burn-in", "start", "smoke-test", "measure",
        ]  # fmt: skip
        assert node.burn_in.engine_while_it_ran == ["inactive"]
        assert node.units.restarts == [ENGINE, "leeward-gateway.service"]
        (found,) = management.passports.views()
        assert (found.passport.id, found.passport.burn_in.duration_s) == (view.id, 7)


def test_an_upgrade_is_measured_where_the_site_asks_for_it_and_compared_with_the_release_before(
    node: TwinNode,
) -> None:
    node.accepts_changes = True
    with node.daemon() as management:
        install(management, node)
        node.load = TwinLoad(rate=50.0)
    with node.daemon() as management:
        view = install(management, node, medium=str(node.newer_medium()))
        newest, _ = management.passports.views()

        assert f"1 worse than {SLOT}" in view.summary
        assert newest.baseline is not None
        assert (newest.passport.slot, newest.baseline.slot) == ("26.12.0-e2", SLOT)
        unmeasured = run(management, OperationKind.PROVISION, acceptance="false")
        assert StepName.BURN_IN not in {step.name for step in unmeasured.steps}
        assert len(management.passports.views()) == 2


def test_a_measured_upgrade_that_is_canceled_in_the_burn_in_gives_the_engine_back(node: TwinNode) -> None:
    assert isinstance(node.burn_in, TwinBurnIn)
    with node.daemon() as management:
        install(management, node)
        begun = caught_in_the_burn_in(management, node.burn_in, OperationKind.PROVISION, acceptance="true")
        management.operations.cancel(begun, ACTOR)
        assert management.operations.join(30)

        assert management.operations.view(begun).state is OperationState.CANCELED
        assert node.units.active_state(ENGINE) == "active"
        assert management.passports.views() == ()


@pytest.mark.parametrize("wrong", [{"acceptance": "yes"}, {"acceptance": "true", "duration_s": "0"}])
def test_a_change_that_could_not_be_measured_as_asked_is_refused_before_it_begins(
    node: TwinNode, wrong: dict[str, str]
) -> None:
    with node.daemon() as management, pytest.raises(RequestInvalid):
        management.operations.start(OperationRequest(kind=OperationKind.PROVISION, parameters=wrong), ACTOR)

    assert node.playbooks.plays == []


def test_a_release_that_is_slower_than_the_one_before_gives_an_alert(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        run(management, OperationKind.ACCEPTANCE)
        assert not [alert for alert in management.health().alerts if alert.code.startswith("capacity")]
        assert install(management, node, medium=str(node.newer_medium())).error is None
        assert management.identity.slot() == "26.12.0-e2"
    node.load = TwinLoad(rate=50.0)
    with node.daemon() as management:
        view = run(management, OperationKind.ACCEPTANCE)

        (alert,) = [alert for alert in management.health().alerts if alert.code.startswith("capacity")]
        assert alert.code == "capacity-drop"
        assert f"Against {SLOT}: throughput" in alert.advice
        assert f"1 worse than {SLOT}" in view.summary


def test_a_damaged_passport_is_an_alert_and_not_a_node_without_health(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        run(management, OperationKind.ACCEPTANCE)
        (path,) = (node.paths.data / "state/passports").iterdir()
        path.write_text("{", encoding="utf-8")

        assert "capacity-unknown" in {alert.code for alert in management.health().alerts}


def test_the_signed_evidence_holds_every_passport_as_data_and_as_a_page(node: TwinNode, tmp_path: Path) -> None:
    with node.daemon() as management:
        install(management, node)
        measured = run(management, OperationKind.ACCEPTANCE)
        exported = run(management, OperationKind.EXPORT_EVIDENCE, destination=str(tmp_path))

    assert exported.error is None
    assert exported.evidence is not None
    manifest = next((Path(exported.evidence.bundle) / "targets").glob("*.release.json"))
    paths = {entry["path"] for entry in json.loads(manifest.read_text(encoding="utf-8"))["files"]}
    assert {f"passports/{measured.id}.json", f"passports/{measured.id}.txt"} <= paths
