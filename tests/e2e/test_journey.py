"""The main job on a real node, asserted: what `make demo` shows must be so.

One journey is walked once for the module; the daemon is killed with SIGKILL in the middle of the
playbook, so every later assertion also holds for an operation that was resumed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bundles.tiny import SENTENCE
from tests.e2e.journey import CHECKOUT, GATEWAY_PORT, Journey, Report

pytestmark = [pytest.mark.node, pytest.mark.timeout(2400)]

PROBE = """
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", 22)), (socket.AF_INET, ("10.88.0.1", 22))):
    with socket.socket(family) as probe:
        probe.settimeout(2)
        try:
            probe.connect(address)
            print("reached", address)
        except OSError as error:
            print("refused", address, error.strerror)
"""


@pytest.fixture(scope="module")
def journey() -> Iterator[Journey]:
    walk = Journey(root=CHECKOUT / ".build/e2e")
    walk.lab.require()
    yield walk
    walk.close()


@pytest.fixture(scope="module")
def report(journey: Journey) -> Report:
    return journey.build()


@pytest.fixture(scope="module")
def events(journey: Journey, report: Report) -> list[dict[str, Any]]:
    """The install's events; leewardd is killed in the middle of the playbook."""
    journey.raise_node()
    journey.bootstrap(report.bootstrap_fingerprint)
    killer = threading.Thread(target=kill_daemon_during_the_playbook, args=(journey,), daemon=True)
    killer.start()
    records = journey.install()
    killer.join(timeout=5)
    assert not killer.is_alive(), "the daemon was never killed"
    return [record["event"] for record in records]


def kill_daemon_during_the_playbook(journey: Journey) -> None:
    journey.wait_for_tasks(15)
    journey.node.ssh("kill -9 $(systemctl show -p MainPID --value leewardd)")


def test_the_node_has_no_route_out(journey: Journey, events: list[dict[str, Any]]) -> None:
    assert events
    assert journey.routes() == ""


def test_the_install_survives_a_killed_daemon_and_ends_well(events: list[dict[str, Any]]) -> None:
    kinds = [event["type"] for event in events]

    assert {"type": "OperationResumed", "step": "provision"} in events
    assert kinds[-1] == "OperationSucceeded"
    assert "OperationFailed" not in kinds


def test_the_answer_is_the_known_sentence_and_the_ledger_agrees_with_the_sdk(
    journey: Journey, events: list[dict[str, Any]]
) -> None:
    assert events

    answer = journey.ask()
    rows = journey.usage(answer["id"])

    assert answer["text"] == SENTENCE
    assert len(rows) == 1
    assert rows[0]["state"] == "settled"
    assert rows[0]["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    assert rows[0]["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]


def test_the_draft_head_is_at_work(journey: Journey, events: list[dict[str, Any]]) -> None:
    assert events

    engine = journey.on_node("health")["engine"]

    assert engine["draft_tokens_total"] > 0
    assert engine["accepted_tokens_total"] > 0


def test_the_engine_reaches_nothing_not_even_the_nodes_loopback(journey: Journey, events: list[dict[str, Any]]) -> None:
    assert events
    pid = journey.node.ssh("systemctl show -p MainPID --value leeward-engine").stdout.strip()

    outside = journey.node.ssh("python3 -", input=PROBE).stdout
    inside = journey.node.ssh(f"nsenter -t {pid} -n python3 -", input=PROBE).stdout

    assert "reached ('127.0.0.1', 22)" in outside
    assert "reached" not in inside


def test_preflight_alone_answers_sixty_questions_on_a_node_that_serves(
    journey: Journey, events: list[dict[str, Any]]
) -> None:
    assert events

    with journey.timed("preflight, SSH included"):
        output = journey.node.ssh("leeward preflight --json").stdout

    print(f"preflight: {journey.times['preflight, SSH included']:.2f} s")  # noqa: T201  the figure of the run
    findings = [json.loads(line) for line in output.splitlines()]
    assert len(findings) >= 60
    assert not [finding["check"] for finding in findings if finding["blocking"]]


@pytest.fixture(scope="module")
def plan(journey: Journey, events: list[dict[str, Any]]) -> dict[str, Any]:
    """A plan of the converged node, made by the daemon that serves."""
    assert events
    with journey.timed("plan"):
        return journey.on_node("plan")


def test_a_plan_of_a_node_that_is_as_it_should_be_predicts_no_change(plan: dict[str, Any]) -> None:
    predictions = {task["prediction"] for task in plan["plan"]["tasks"]}

    assert len(plan["plan"]["tasks"]) > 20
    assert "changes" not in predictions


def test_a_plan_is_refused_once_the_node_has_moved_and_nothing_is_played(
    journey: Journey, plan: dict[str, Any]
) -> None:
    journey.node.ssh("touch /run/reboot-required")

    refused = journey.node.ssh(f"leeward provision --plan {plan['digest']} --json", check=False)

    journey.node.ssh("rm /run/reboot-required")
    told = [json.loads(line)["event"] for line in refused.stdout.splitlines()]
    assert refused.returncode != 0
    assert (told[-1]["type"], told[-1]["code"]) == ("OperationFailed", "plan-outdated")
    assert "restart pending" in told[-1]["detail"]
    assert not {"TaskStarted", "PlanAccepted"} & {event["type"] for event in told}


def test_the_same_playbook_again_goes_by_the_plan_and_changes_nothing(journey: Journey, plan: dict[str, Any]) -> None:
    with journey.timed("provision again"):
        output = journey.node.ssh(f"leeward provision --plan {plan['digest']} --json").stdout
    told = [json.loads(line)["event"] for line in output.splitlines()]
    outcomes = [event.get("outcome") for event in told]

    assert {"type": "PlanAccepted", "digest": plan["digest"], "approved_by": ""} in told
    assert outcomes.count("ok") > 20
    assert "changed" not in outcomes
    assert "failed" not in outcomes


def test_a_neighbour_sees_ssh_and_the_gateway_only(journey: Journey, events: list[dict[str, Any]]) -> None:
    assert events
    scan = (
        "import socket,sys\n"
        "for port in [22, 25, 80, 111, 443, 2019, 8000, 8080, 8443, 9090, 29500, 29550]:\n"
        "    s = socket.socket(); s.settimeout(0.5)\n"
        "    if s.connect_ex((sys.argv[1], port)) == 0: print(port)\n"
        "    s.close()\n"
    )

    result = journey.beside_node(scan, journey.node.address)

    assert result.split() == ["22", str(GATEWAY_PORT)]


def test_an_older_release_is_refused_and_nothing_is_imported(journey: Journey, events: list[dict[str, Any]]) -> None:
    assert events
    slots = journey.slots()

    refused = journey.import_from(journey.older_bundle())

    assert refused.returncode == 4
    assert "older than what was accepted before" in refused.stdout + refused.stderr
    assert journey.slots() == slots


def test_a_medium_with_one_flipped_bit_is_refused(journey: Journey, report: Report) -> None:
    """What such a medium leaves on a node, namely nothing, is asserted in tests/unit/bundles/test_import.py."""
    known_root = str(journey.bundle / "metadata/1.root.json")

    good = journey.leeward("bundle", "verify", str(journey.bundle), "--root", known_root)
    refused = journey.leeward("bundle", "verify", str(journey.damaged_bundle()), "--root", known_root, check=False)

    assert f"all {report.files} files" in good.stdout
    assert refused.returncode == 4
    assert "weights/target/consolidated-" in refused.stdout + refused.stderr


def test_the_evidence_is_accepted_on_another_machine_and_refused_after_one_flipped_bit(
    journey: Journey, events: list[dict[str, Any]]
) -> None:
    assert events

    evidence, fingerprint = journey.export_evidence()
    accepted = journey.leeward("bundle", "verify", str(evidence), "--root-fingerprint", fingerprint)
    blob = max((evidence / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    refused = journey.leeward("bundle", "verify", str(evidence), "--root-fingerprint", fingerprint, check=False)

    assert accepted.returncode == 0
    assert refused.returncode == 4


def test_the_audit_chain_holds(journey: Journey, events: list[dict[str, Any]]) -> None:
    assert events

    verdict = journey.on_node("audit", "verify")

    assert verdict["broken_at"] is None
    assert verdict["entries"] > 5


def test_an_uninstallation_takes_leeward_off_and_leaves_the_sites_records(
    journey: Journey, events: list[dict[str, Any]]
) -> None:
    """What else it leaves, and that it leaves nothing more, is asserted in tests/roles/test_site.py."""
    assert events
    name = journey.on_node("status")["node"]

    other = journey.node.ssh("leeward uninstall --node another", check=False)
    assert other.returncode != 0
    with journey.timed("uninstall"):
        output = journey.node.ssh(f"leeward uninstall --node {name} --json").stdout
        journey.node.ssh("while [ -e /etc/systemd/system/leeward-leave.service ]; do sleep 0.2; done")

    assert json.loads(output.splitlines()[-1])["event"]["type"] == "OperationSucceeded"
    left = journey.node.ssh("ls /etc/systemd/system /opt /var/lib/leeward; systemctl list-units 'leeward*' --no-legend")
    assert not {word for word in left.stdout.split() if word.startswith("leeward")} - {"leeward-lab"}
    assert {"ledger", "trust", "evidence-keys", "exports"} <= set(left.stdout.split())
    assert not {"slots", "store", "staging"} & set(left.stdout.split())
    assert "leeward" not in journey.node.ssh("nft list tables").stdout
    rows = journey.node.ssh(
        "python3 -c \"import sqlite3; print(sqlite3.connect('/var/lib/leeward/ledger/ledger.db')"
        ".execute('select count(*) from usage_record').fetchone()[0])\""
    )
    assert int(rows.stdout) >= 2
