"""systemctl and journalctl, with programs in their place that say what systemd would."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.adapters.host import SystemdServices
from appliance.domain.errors import CommandFailed

UNIT = "leeward-engine.service"


def program(folder: Path, body: str) -> str:
    path = folder / "program"
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return str(path)


def services(folder: Path, body: str, *, timeout_s: float = 5.0) -> SystemdServices:
    script = program(folder, body)
    return SystemdServices(act_timeout_s=timeout_s, read_timeout_s=timeout_s, systemctl=script, journalctl=script)


def test_state_start_and_log_come_from_systemd(tmp_path: Path) -> None:
    made = services(
        tmp_path,
        f'echo "$@" >> {tmp_path}/calls\n'
        'case "$1" in\n'
        "show) printf 'ActiveState=active\\nActiveEnterTimestamp=@1795500000\\nNRestarts=2\\n';;\n"
        "--unit*) echo line;;\n"
        "esac",
    )

    made.start(UNIT)
    assert made.active_state(UNIT) == "active"
    assert made.started_at(UNIT) == datetime.fromtimestamp(1_795_500_000, tz=UTC)
    assert made.automatic_restarts(UNIT) == 2
    assert made.log_tail(UNIT, 5) == "line\n"
    assert (tmp_path / "calls").read_text().splitlines()[0] == f"--no-ask-password start {UNIT}"


def test_a_unit_that_is_not_active_has_no_start(tmp_path: Path) -> None:
    assert (
        services(
            tmp_path, "echo ActiveState=inactive; echo ActiveEnterTimestamp=@1795500000; echo NRestarts=0"
        ).started_at(UNIT)
        is None
    )


def test_a_systemd_that_leaves_out_what_was_asked_is_an_error_and_not_a_guess(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed):
        services(tmp_path, "echo ActiveState=active").active_state(UNIT)


def test_a_failure_carries_what_systemd_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as caught:
        services(tmp_path, "echo 'Unit not found.' >&2; exit 5").restart(UNIT)

    assert "exited 5: Unit not found." in caught.value.detail
    assert "restart" in caught.value.detail


def test_a_hanging_systemd_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as caught:
        services(tmp_path, "exec sleep 30", timeout_s=0.2).stop(UNIT)

    assert "did not end within 0.2 s" in caught.value.detail


def test_a_machine_without_systemctl_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as caught:
        SystemdServices(systemctl=str(tmp_path / "none")).active_state(UNIT)

    assert "could not be run" in caught.value.detail


@pytest.mark.parametrize("unit", ["", "--now", "a b.service", "x.service; reboot", "../etc.service", "engine"])
def test_what_is_no_unit_name_never_becomes_an_argument(tmp_path: Path, unit: str) -> None:
    made = services(tmp_path, f"touch {tmp_path}/ran")

    with pytest.raises(CommandFailed):
        made.start(unit)

    assert not (tmp_path / "ran").exists()
