"""From medium to served token on a node of twins: what each step changes, and what it leaves alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from appliance.domain.errors import NotFound
from appliance.domain.license import ComplianceState
from appliance.domain.operation import Actor, OperationKind, OperationRequest, OperationState, StepName, StepState
from appliance.domain.projection import OperationView
from appliance.services.management import Management
from appliance.services.steps.smoke_test import SmokeLimits, SmokeTestStep
from appliance.services.steps.start import StartLimits, StartStep
from bundles.release import BundleKind
from tests.support.small_bundles import blank_release, write_bundle
from tests.unit.operations.node import TwinNode, break_down

STATEMENT = json.dumps({"band": "under-50-percent", "legal_entity": "ACME", "signatory": "C. Fo", "role": "CFO"})
ACTOR = Actor(name="j.doe", uid=1000)
SLOT = "26.11.0-e1"


@pytest.fixture
def node(tmp_path: Path) -> TwinNode:
    return TwinNode(tmp_path)


def run(management: Management, kind: OperationKind, **parameters: str) -> OperationView:
    begun = management.operations.start(OperationRequest(kind=kind, parameters=parameters), ACTOR)
    assert management.operations.join(60)
    return management.operations.view(begun.id)


def install(management: Management, node: TwinNode, **more: str) -> OperationView:
    return run(management, OperationKind.INSTALL, **{"medium": str(node.medium), "attestation": STATEMENT} | more)


def audited(management: Management) -> list[str]:
    entries = management.audit.entries()
    return [f"{entry.action} {entry.outcome}" for entry in entries if entry.action != "egress.count"]


def test_an_install_ends_with_a_current_slot_running_units_and_a_settled_row(node: TwinNode) -> None:
    with node.daemon() as management:
        view = install(management, node)

        assert view.error is None
        assert view.state is OperationState.SUCCEEDED
        assert management.identity.slot() == SLOT
        assert not (node.paths.slots / "next").is_symlink()
        assert node.units.restarts == ["leeward-engine.service", "leeward-gateway.service"]
        assert [record.team for _, record in management.usage().records()] == ["leeward"]
        assert all(key.revoked_at for key in management.keys.list())
        assert management.license_status().state is ComplianceState.COMPLIANT
        assert len(view.findings) > 20
        assert view.step(view.steps[1].name).summary.startswith("small 26.11.0, epoch 1")
    assert not list((node.paths.data / "staging").iterdir())


def test_an_install_leaves_a_trail_in_the_order_of_its_acts(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)

        assert audited(management) == [
            "install started",
            "evidence-keys.create begun",
            "evidence-keys.create succeeded",
            "release.import verified",
            "license.terms recorded",
            "license.attest recorded",
            "release.activate begun",
            "release.activate succeeded",
            "key.create begun",
            "key.create succeeded",
            "key.revoke begun",
            "key.revoke succeeded",
            "install succeeded",
        ]


def test_the_play_gets_the_slot_it_shall_make_current_and_nothing_from_outside_it(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)

    play = node.playbooks.plays[0]
    assert play.playbooks == node.paths.slots / SLOT / "playbooks"
    assert play.variables["engine_vllm_slot"] == SLOT
    assert play.variables["engine_vllm_gpu"] is False
    assert play.variables["nvidia_driver_enabled"] is False
    assert play.variables["base_repository"] == str(node.paths.slots / SLOT / "os/debian-12")


def test_without_a_statement_nothing_is_recorded_and_nothing_provisioned(node: TwinNode) -> None:
    with node.daemon() as management:
        view = run(management, OperationKind.INSTALL, medium=str(node.medium))

        assert view.error is not None
        assert view.error.code == "terms-not-accepted"
        assert management.licenses.terms() == ()
        assert node.playbooks.plays == []
        assert management.identity.slot() is None


def test_a_statement_that_cannot_be_read_starts_nothing(node: TwinNode) -> None:
    with node.daemon() as management:
        view = install(management, node, attestation='{"band": "plenty"}')

        assert view.error is not None
        assert view.error.code == "request-invalid"
        assert management.licenses.attestations() == ()
        assert node.playbooks.plays == []


def test_a_node_that_is_not_fit_is_left_alone(node: TwinNode) -> None:
    node.probe.seen = type(node.probe.seen)(**{**_fields(node), "memory_total_bytes": 10**6})
    with node.daemon() as management:
        view = install(management, node)

        assert view.error is not None
        assert view.error.code == "preflight-blocked"
        assert any(finding.blocking for finding in view.findings)
    assert list(node.paths.slots.iterdir()) == []


def test_a_medium_with_one_wrong_byte_changes_nothing_that_is_trusted_or_served(node: TwinNode) -> None:
    blob = max((node.medium / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)

    with node.daemon() as management:
        view = install(management, node)

        assert view.error is not None
        assert view.error.code == "content-mismatch"
        assert "release.import verified" not in audited(management)
    assert not (node.paths.slots / SLOT).exists()
    assert not (node.paths.slots / "next").is_symlink()
    assert not (node.paths.trust / "current").exists()


def test_an_evidence_bundle_is_not_installed(node: TwinNode) -> None:
    release = blank_release()
    evidence = type(release)(
        **{name: getattr(release, name) for name in release.__dataclass_fields__}
        | {"kind": BundleKind.EVIDENCE, "engine": None, "requirements": None, "licenses": ()}
    )
    medium = node.root / "evidence"
    write_bundle(medium, node.keyring, release=evidence, files={"export.json": b"{}"})

    with node.daemon() as management:
        view = run(management, OperationKind.IMPORT, medium=str(medium))

        assert view.error is not None
        assert view.error.code == "release-invalid"
    assert not (node.paths.slots / "next").is_symlink()


def test_a_play_that_fails_leaves_the_old_slot_current_and_the_new_one_waiting(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        node.playbooks.act = break_down

        view = install(management, node, medium=str(node.newer_medium()))

        assert view.error is not None
        assert view.error.code == "playbook-failed"
        assert management.identity.slot() == SLOT
        assert (node.paths.slots / "next").readlink().name == "26.12.0-e2"
        node.playbooks.act = lambda _request: None
        again = run(management, OperationKind.PROVISION)
        assert again.state is OperationState.SUCCEEDED
        assert management.identity.slot() == "26.12.0-e2"


def test_provisioning_again_restarts_nothing_that_runs_the_current_slot(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        node.units.restarts.clear()

        view = run(management, OperationKind.PROVISION)

        assert view.state is OperationState.SUCCEEDED
        assert node.units.restarts == []
        assert audited(management).count("release.activate succeeded") == 1


def test_an_import_alone_activates_nothing(node: TwinNode) -> None:
    with node.daemon() as management:
        view = run(management, OperationKind.IMPORT, medium=str(node.medium))

        assert view.state is OperationState.SUCCEEDED
        assert management.identity.slot() is None
        assert node.playbooks.plays == []


def test_provisioning_without_a_release_says_what_is_missing(node: TwinNode) -> None:
    with node.daemon() as management:
        view = run(management, OperationKind.PROVISION)

        assert view.error is not None
        assert view.error.code == NotFound.code
        assert "No release has been imported" in view.error.detail


def test_an_engine_that_ends_is_reported_with_its_last_words(node: TwinNode) -> None:
    node.engine.says = None
    node.units.state = "failed"
    with node.daemon() as management:
        view = install(management, node)

        assert view.error is not None
        assert view.error.code == "engine-start-failed"
        assert "CUDA out of memory" in view.error.detail
        assert management.keys.list() == []


def test_an_engine_in_a_restart_loop_is_given_up_at_its_third_restart(
    node: TwinNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("appliance.wiring.steps.StartStep", partial(StartStep, sleep=pauses.append))
    node.engine.says = None
    node.units.crashes_per_look = 1
    with node.daemon() as management:
        view = install(management, node)

        assert view.error is not None
        assert view.error.code == "engine-start-failed"
        assert "after 3 restarts by systemd" in view.error.detail
        assert len(pauses) <= 3
        assert management.keys.list() == []


def test_an_engine_that_takes_a_while_is_waited_for_and_started_once(
    node: TwinNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    limits = StartLimits(pause_s=7.0, report_interval_s=0.0)
    monkeypatch.setattr("appliance.wiring.steps.StartStep", partial(StartStep, limits=limits, sleep=pauses.append))
    node.engine.silent_for = 50  # the daemon's own readiness probe may take a few of these
    with node.daemon() as management:
        view = install(management, node)

        assert view.state is OperationState.SUCCEEDED
        assert pauses == [7.0] * len(pauses)
        assert len(pauses) >= 5
        assert any("the socket refuses the connection" in line for line in view.log)
    assert node.units.restarts.count("leeward-engine.service") == 1


def test_a_cancel_ends_the_wait_for_an_engine(node: TwinNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.engine.says = None
    with node.daemon() as management:

        def canceling(_pause_s: float) -> None:
            management.operations.cancel(management.operations.views()[0].id, ACTOR)

        monkeypatch.setattr(management.operations._steps[StepName.START], "_sleep", canceling)

        view = install(management, node)

        assert view.state is OperationState.CANCELED
        assert view.step(StepName.START).state is StepState.CANCELED
        assert node.gateway.secrets == []


def test_an_engine_with_another_answer_is_not_served(node: TwinNode) -> None:
    node.engine.says = "ping"
    with node.daemon() as management:
        view = install(management, node)

        assert view.error is not None
        assert view.error.code == "engine-not-ready"
        assert "ping" not in view.error.detail
        assert node.gateway.secrets == []


@pytest.mark.parametrize("fault", ["HTTP 401", "no row"])
def test_a_request_that_fails_or_is_not_metered_fails_the_install_and_its_key_is_revoked(
    node: TwinNode, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    limits = SmokeLimits(settle_timeout_s=0.2, pause_s=0.05)
    monkeypatch.setattr("appliance.wiring.steps.SmokeTestStep", partial(SmokeTestStep, limits=limits))
    node.gateway.status = 401 if fault == "HTTP 401" else 200
    node.gateway.is_metered = fault != "no row"
    with node.daemon() as management:
        view = install(management, node)

        assert view.error is not None
        assert view.error.code == "gateway-not-ready"
        assert fault in view.error.detail
        assert [key.revoked_at is None for key in management.keys.list()] == [False]


def test_the_key_of_a_killed_smoke_test_is_revoked_by_the_next(node: TwinNode) -> None:
    with node.daemon() as management:
        install(management, node)
        management.keys.create(name="smoke test", team="leeward", actor=Actor.appliance())

        run(management, OperationKind.PROVISION)

        assert all(key.revoked_at for key in management.keys.list())


def test_evidence_is_exported_signed_and_named(node: TwinNode) -> None:
    destination = node.root / "out"
    destination.mkdir()
    with node.daemon() as management:
        install(management, node)

        view = run(management, OperationKind.EXPORT_EVIDENCE, destination=str(destination))

        assert view.error is None
        assert view.evidence is not None
        assert Path(view.evidence.bundle).parent == destination
        assert len(view.evidence.root_fingerprint) == 64


def test_what_is_simulated_is_said(node: TwinNode) -> None:
    with node.daemon() as management:
        assert management.status(caller="x", roles=frozenset()).simulated == ("gpus",)


def _fields(node: TwinNode) -> dict[str, object]:
    return {name: getattr(node.probe.seen, name) for name in node.probe.seen.__dataclass_fields__}
