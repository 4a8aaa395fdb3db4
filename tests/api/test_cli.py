"""The CLI against a real daemon process: lines, JSON, exit status, and errors that say what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import CHECKOUT, DaemonProcess

Run = Callable[..., subprocess.CompletedProcess[str]]

STEPS = ("preflight", "import", "license", "provision", "reboot", "start", "smoke-test")
ATTESTED = ("--attest-band", "under-50-percent", "--legal-entity", "ACME", "--signatory", "C. Fo", "--role", "CFO")


@pytest.fixture
def run(daemon: DaemonProcess) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "appliance.entrypoints.cli", "--socket", str(daemon.socket), *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)

    return run


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_install_is_followed_to_its_end_in_lines_or_in_json(daemon: DaemonProcess, run: Run) -> None:
    for step in STEPS:
        daemon.let(step)

    for_people = run("install", "--medium", "/mnt/usb", *ATTESTED)
    for_scripts = run("install", "--medium", "/mnt/usb", *ATTESTED, "--json")

    assert for_people.returncode == for_scripts.returncode == 0
    assert "install succeeded after" in for_people.stdout
    assert for_people.stdout.isascii()
    events = parsed(for_scripts.stdout)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"]["type"] == "OperationSucceeded"


def test_an_answers_file_gives_what_options_give_and_options_win(
    daemon: DaemonProcess, run: Run, tmp_path: Path
) -> None:
    for step in STEPS:
        daemon.let(step)
    answers = tmp_path / "answers.toml"
    answers.write_text(
        'medium = "/mnt/usb"\n[attestation]\nband = "under-50-percent"\nlegal_entity = "ACME"\n'
        'signatory = "C. Fo"\nrole = "CFO"\n'
    )

    done = run("install", "--answers", str(answers), "--role", "Controller", "--no-follow", "--json")

    assert done.returncode == 0
    assert parsed(done.stdout)[0]["kind"] == "install"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('medium = "/mnt/usb"\nmediun = "x"\n', "unknown key mediun"),
        ('medium = "/mnt/usb"\n[attestation]\nbnd = "x"\n', "unknown key attestation.bnd"),
        ("medium = 3\n", "wrong type"),
        ("medium = \n", "Invalid value"),
    ],
)
def test_a_mistake_in_an_answers_file_is_named_and_nothing_starts(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    answers = tmp_path / "answers.toml"
    answers.write_text(text)

    refused = run("install", "--answers", str(answers))

    assert refused.returncode == 2
    assert said in refused.stderr
    assert "What to do: " in refused.stderr
    assert "(none)" in run("operations").stdout


def test_a_failure_gives_the_errors_exit_status_and_its_remedy(daemon: DaemonProcess, run: Run) -> None:
    daemon.let("preflight", "fail")

    failed = run("import", "--medium", "/mnt/usb")
    again = run("import", "--medium", "/mnt/usb", "--json")

    assert failed.returncode == again.returncode == 2
    assert "[preflight-blocked]" in failed.stderr
    assert "What to do: Remove the file." in failed.stderr
    assert parsed(again.stdout)[-1]["event"]["code"] == "preflight-blocked"


def test_an_operation_can_be_listed_shown_canceled_and_followed_later(daemon: DaemonProcess, run: Run) -> None:
    daemon.let("preflight")
    begun = parsed(run("provision", "--no-follow", "--json").stdout)[0]["id"]
    daemon.until(lambda: daemon.runs("provision") == 1)

    conflict = run("import", "--medium", "/mnt/usb")
    canceled = run("cancel", begun)
    followed = run("follow", begun)

    assert conflict.returncode == 2
    assert begun in conflict.stderr
    assert "stops at its next safe point" in canceled.stdout
    assert followed.returncode == 130
    assert "provision was canceled" in followed.stdout
    assert "Provision the node" in run("operations", begun).stdout
    assert [view["id"] for view in parsed(run("operations", "--json").stdout)] == [begun]


def test_a_key_is_shown_once_and_ends_when_it_is_revoked(run: Run) -> None:
    created = parsed(run("key", "create", "--team", "research", "--name", "notebook", "--json").stdout)[0]
    revoked = run("key", "revoke", created["key"]["key_id"])
    listed = parsed(run("key", "list", "--json").stdout)

    assert created["secret"].startswith("lwd_")
    assert revoked.returncode == 0
    assert listed[0]["revoked_at"] is not None
    assert created["secret"] not in json.dumps(listed)
    assert created["secret"] not in run("audit", "--json").stdout
    assert run("key", "revoke", "key_nobody").returncode == 2


def test_the_audit_log_is_followed_here_and_checked_against_a_kept_head(run: Run) -> None:
    run("key", "create", "--team", "t", "--name", "n")
    head = parsed(run("audit", "verify", "--json").stdout)[0]["head"]

    assert run("audit", "verify", "--head", head).returncode == 0
    lost = run("audit", "verify", "--head", "ab" * 32)
    assert lost.returncode == 4
    assert "[audit-broken]" in lost.stderr
    assert "call the auditor" in lost.stderr


def test_a_statement_is_recorded_and_shown(run: Run) -> None:
    recorded = run("license", "attest", "--band", "under-50-percent", *ATTESTED[2:])

    assert recorded.returncode == 0
    assert "C. Fo" in run("license").stdout
    assert parsed(run("license", "--json").stdout)[0]["attestations"][0]["legal_entity"] == "ACME"


def test_what_is_simulated_stands_in_the_status(run: Run) -> None:
    assert "SIMULATED  gpu" in run("status").stdout


def test_without_a_daemon_the_remedy_names_the_unit(daemon: DaemonProcess, run: Run) -> None:
    daemon.kill()

    refused = run("status")

    assert refused.returncode == 2
    assert "[daemon-unreachable]" in refused.stderr
    assert "systemctl start leewardd" in refused.stderr


def test_a_wrong_word_is_a_usage_error(run: Run) -> None:
    assert run("dance").returncode == 2
    assert run("install").returncode == 2


@pytest.mark.parametrize("form", ["table", "plot", "csv"])
def test_usage_is_summed_for_people_and_for_spreadsheets(run: Run, form: str) -> None:
    done = run("usage", "report", "--by", "team", "--by", "model", "--since", "2026-11", "--format", form)

    assert done.returncode == 0
    assert ("(none)" in done.stdout) == (form != "csv")
    assert done.stdout.startswith("team,model,requests,settled") == (form == "csv")


def test_costs_of_a_month_without_use_are_nothing_and_say_what_is_unknown(run: Run) -> None:
    for_people = run("costs", "--month", "2026-12")
    for_scripts = run("costs", "--month", "2026-12", "--json")

    assert for_people.returncode == for_scripts.returncode == 0
    assert "At list prices: 0.00 USD." in for_people.stdout
    assert "own cost is unknown" in for_people.stdout
    assert parsed(for_scripts.stdout)[0]["lines"] == []
    assert parsed(for_scripts.stdout)[0]["node_per_month"] is None
