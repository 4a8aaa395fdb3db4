"""The step `preflight` in operations: judged by their parameters, recorded by name, asked again before provisioning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.domain.errors import RequestInvalid
from appliance.domain.operation import Actor, OperationKind, OperationRequest, OperationState
from appliance.domain.preflight import Judgement, Outcome
from appliance.domain.projection import OperationView
from appliance.services.management import Management
from bundles.media.opening import open_media
from bundles.media.split import lay_out, write_volume
from tests.unit.operations.node import TwinNode

ACTOR = Actor(name="j.doe", uid=1000)
REASON = "the owner agreed on 3 May"


@pytest.fixture
def node(tmp_path: Path) -> TwinNode:
    twin = TwinNode(tmp_path)
    twin.probe.seen = replace(twin.probe.seen, services=frozenset({"fapolicyd.service"}))
    return twin


def run(management: Management, kind: OperationKind, **parameters: str) -> OperationView:
    begun = management.operations.start(OperationRequest(kind=kind, parameters=parameters), ACTOR)
    assert management.operations.join(60)
    return management.operations.view(begun.id)


def test_a_waived_finding_lets_the_operation_go_on_and_is_told_and_recorded_by_name(node: TwinNode) -> None:
    with node.daemon() as management:
        refused = run(management, OperationKind.IMPORT, medium=str(node.medium))
        waivers = json.dumps({"fapolicyd": REASON})

        view = run(management, OperationKind.IMPORT, medium=str(node.medium), waivers=waivers)

        assert refused.error is not None
        assert refused.error.code == "preflight-blocked"
        assert view.state is OperationState.SUCCEEDED
        finding = next(finding for finding in view.findings if finding.check == "fapolicyd")
        assert (finding.outcome, finding.blocking, finding.waiver) == ("fail", False, REASON)
        assert "1 waived" in view.steps[0].summary
        (entry,) = [entry for entry in management.audit.entries() if entry.action == "waive-finding"]
        assert (entry.actor, entry.object, entry.details["reason"]) == ("j.doe", "fapolicyd", REASON)
        assert entry.details["purpose"] == f"operation {view.id}"


def test_provisioning_asks_again_before_it_changes_anything(node: TwinNode) -> None:
    with node.daemon() as management:
        waivers = json.dumps({"fapolicyd": REASON})
        run(management, OperationKind.IMPORT, medium=str(node.medium), waivers=waivers)

        view = run(management, OperationKind.PROVISION)

        assert view.error is not None
        assert view.error.code == "preflight-blocked"
        assert node.playbooks.plays == []


def split(node: TwinNode) -> tuple[Path, Path]:
    """Write the medium as one data volume and one parity volume."""
    layout = lay_out(open_media([node.medium]), volume_bytes=20 * 10**6, parity=1)
    data, parity = layout.headers
    folders = node.root / "data", node.root / "parity"
    write_volume(layout, data, folders[0])
    write_volume(layout, parity, folders[1])
    return folders


def test_the_release_is_found_on_any_of_the_volumes(node: TwinNode) -> None:
    node.probe.seen = replace(node.probe.seen, services=frozenset())
    data, parity = split(node)
    (manifest,) = (data / "targets").iterdir()
    manifest.chmod(0o644)
    manifest.write_bytes(b"not readable any more")
    with node.daemon() as management:
        alone = run(management, OperationKind.IMPORT, medium=str(data))
        both = run(management, OperationKind.IMPORT, medium=str(data), volumes=str(parity))

        assert alone.error is not None
        assert (alone.error.code, alone.findings) == ("content-mismatch", ())
        assert "nothing blocks" in both.steps[0].summary
        assert len(both.findings) > 20


def test_media_are_refused_where_none_of_them_carries_a_release(node: TwinNode) -> None:
    with node.daemon() as management:
        nowhere = str(node.root / "nowhere")
        view = run(management, OperationKind.IMPORT, medium=nowhere, volumes=f"{nowhere}-2")

        assert view.error is not None
        assert (view.error.code, view.findings) == ("media-missing", ())


def test_strict_lets_a_warning_stop_the_operation_before_anything_is_imported(node: TwinNode) -> None:
    node.probe.seen = replace(node.probe.seen, services=frozenset(), swap_bytes=10**9)
    with node.daemon() as management:
        view = run(management, OperationKind.IMPORT, medium=str(node.medium), strict="true")

        assert view.error is not None
        assert "swap" in view.error.detail
        assert not (node.paths.slots / "next").is_symlink()


@pytest.mark.parametrize("parameters", [{"waivers": "{"}, {"waivers": '{"fapolicyd": ""}'}, {"strict": "yes"}])
def test_a_judgement_that_cannot_be_read_starts_no_operation(node: TwinNode, parameters: dict[str, str]) -> None:
    with node.daemon() as management:
        with pytest.raises(RequestInvalid):
            run(management, OperationKind.IMPORT, medium=str(node.medium), **parameters)

        assert management.operations.views() == ()


def test_what_trust_depends_on_is_not_waived_and_nothing_is_recorded_as_waived(node: TwinNode) -> None:
    with node.daemon() as management:
        waivers = json.dumps({"trust-root": REASON})
        view = run(management, OperationKind.IMPORT, medium=str(node.medium), waivers=waivers)

        assert view.error is not None
        assert "cannot be waived" in view.error.detail
        assert not [entry for entry in management.audit.entries() if entry.action == "waive-finding"]


def test_a_look_with_a_waiver_is_recorded_and_one_without_is_not(node: TwinNode) -> None:
    with node.daemon() as management:
        management.judged_preflight(node.medium, Judgement(strict=True), ACTOR)
        assert not [entry for entry in management.audit.entries() if entry.action == "waive-finding"]

        findings = management.judged_preflight(node.medium, Judgement(waivers={"fapolicyd": REASON}), ACTOR)

        waived = [finding for finding in findings if finding.waiver]
        assert [(f.check, f.outcome) for f in waived] == [("fapolicyd", Outcome.FAIL)]
        (entry,) = [entry for entry in management.audit.entries() if entry.action == "waive-finding"]
        assert entry.details["purpose"] == f"preflight {node.medium}"


def test_facts_for_others_name_no_machine(node: TwinNode) -> None:
    node.probe.seen = replace(node.probe.seen, hostname="llm01.secret.example")
    with node.daemon() as management:
        assert management.facts().hostname == "llm01.secret.example"
        assert "secret" not in management.facts(is_redacted=True).hostname
