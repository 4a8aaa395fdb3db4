"""Engines through the management API and the command line of a real daemon."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.adapters.host.engine_board import EngineBoard, StandingsFile
from appliance.client import ApplianceClient
from appliance.domain.errors import NotFound, NotPermitted, StateUnusable
from appliance.domain.routing import EngineStanding
from tests.api.conftest import CHECKOUT, DaemonProcess

NEAR = EngineStanding(name="near", is_up=True, is_drained=False, is_spared=False, in_flight=3, failures=0)


def leeward(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance.entrypoints.cli", "--socket", str(daemon.socket), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)


async def test_an_administrator_drains_and_undrains_an_engine_of_the_settings_and_it_is_on_record(
    client: ApplianceClient, daemon: DaemonProcess
) -> None:
    for name in ("else", "../near"):
        with pytest.raises(NotFound):
            await client.drain_engine(name, is_drained=True)
    (daemon.root / "roles").write_text("operator auditor")
    with pytest.raises(NotPermitted):
        await client.drain_engine("near", is_drained=True)
    assert not (daemon.root / "drained").exists()
    (daemon.root / "roles").write_text("admin")

    drained = await client.drain_engine("far", is_drained=True)
    listed = await client.engines()
    undrained = await client.drain_engine("far", is_drained=False)

    assert (drained.name, drained.place, drained.is_drained) == ("far", "10.1.0.12:8444", True)
    assert [(one.name, one.is_drained, one.standing) for one in listed] == [("near", False, None), ("far", True, None)]
    assert not undrained.is_drained
    acts = [(entry.action, entry.object, entry.outcome) for entry in await client.audit(0, 100)]
    assert acts == [("engine.drain", "far", "succeeded"), ("engine.undrain", "far", "succeeded")]


def test_the_command_line_says_how_engines_stand(daemon: DaemonProcess) -> None:
    StandingsFile(daemon.root / "standings.json").write((NEAR,))
    drained = leeward(daemon, "engine", "drain", "near")
    listed = leeward(daemon, "engine", "list").stdout.splitlines()
    plain = [json.loads(line) for line in leeward(daemon, "engine", "list", "--json").stdout.splitlines()]

    assert (drained.returncode, "near gets no new requests" in drained.stdout) == (0, True)
    assert listed[1].split() == ["near", "/run/near.sock", "up,", "drained", "3"]
    assert "unknown" in listed[2]
    assert (plain[0]["standing"]["in_flight"], plain[1]["standing"]) == (3, None)


def test_what_a_gateway_told_long_ago_or_wrongly_is_unknown(tmp_path: Path) -> None:
    board = EngineBoard(drained=tmp_path / "drained", standings=tmp_path / "told.json")
    StandingsFile(tmp_path / "told.json").write((NEAR,))
    assert board.standings() == (NEAR,)

    told = json.loads((tmp_path / "told.json").read_text())
    for wrong in ({**told, "at": time.time() - 6}, {**told, "engines": [{"name": "near"}]}, [], {"at": "x"}):
        (tmp_path / "told.json").write_text(json.dumps(wrong))
        assert board.standings() is None


def test_a_folder_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "drained").write_text("not a folder")
    board = EngineBoard(drained=tmp_path / "drained", standings=tmp_path / "told.json")

    with pytest.raises(StateUnusable):
        board.drained()
    with pytest.raises(StateUnusable):
        board.set_drained("near", is_drained=True)
