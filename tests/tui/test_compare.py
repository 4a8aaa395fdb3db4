"""Two passports side by side, by the same words in the command line as in the console."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from appliance.domain.passport_page import comparison_page, prediction_lines
from tests.support.fake_daemon import FakeDaemon
from tests.tui import records
from tests.tui.conftest import Stage
from tests.tui.recorded import NOW

CHECKOUT = Path(__file__).resolve().parents[2]
NEWEST, BEFORE, ON_CPU = (view.passport for view in records.passports(NOW))


async def leeward(daemon: FakeDaemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance.entrypoints.cli", "--socket", str(daemon.socket), *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, check=False, capture_output=True, text=True, cwd=CHECKOUT, timeout=60
    )


async def test_worse_passport_is_told_by_words_and_by_exit_status(on_stage: Stage) -> None:
    daemon = await on_stage("ok")

    worse, as_json, unknown = await asyncio.gather(
        leeward(daemon, "passport", "--compare", BEFORE.id, NEWEST.id),
        leeward(daemon, "passport", "--compare", BEFORE.id, NEWEST.id, "--json"),
        leeward(daemon, "passport", "--compare", BEFORE.id, "op-none"),
    )

    assert worse.returncode == 3
    assert worse.stdout == comparison_page(BEFORE, NEWEST)
    assert [json.loads(line)["name"] for line in as_json.stdout.splitlines()] == ["throughput"]
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "leeward passport --all" in unknown.stderr


def test_better_figures_and_another_kind_of_device_are_never_worse() -> None:
    assert not any(line.endswith("  WORSE") for line in comparison_page(NEWEST, BEFORE).splitlines())
    assert "+25%" in comparison_page(NEWEST, BEFORE)
    assert "CHANGE" not in comparison_page(ON_CPU, NEWEST)
    assert "*** CPU, NO GPU MEASURED. ***" in comparison_page(ON_CPU, NEWEST)


def test_prediction_without_a_measurement_is_unknown() -> None:
    (_, *lines) = prediction_lines(replace(NEWEST, engine=()))

    assert [line.split()[-3:] for line in lines] == [["??", "tokens", "--"], ["??", "tokens/s", "--"]]
