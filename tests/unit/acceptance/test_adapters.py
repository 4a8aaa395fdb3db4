"""The burn-in runner with programs of the test, the load on an engine that counts, the folder of passports."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest

from appliance.adapters.acceptance import EngineBurnIn, EngineLoadMeter, PassportFolder
from appliance.adapters.acceptance.burn_in import failed_tests
from appliance.domain.acceptance import BurnInResult, Diagnosis
from appliance.domain.errors import BurnInFailed, Canceled, EngineNotReady, NotFound, StateUnusable
from appliance.domain.operation import OperationId
from bundles.release import Device
from tests.support.fake_engine import MODEL, FakeEngine, Script
from tests.unit.acceptance.made import burn_in, figure, passport

RESULT = {
    "schema": "leeward-burn-in/1", "device": "cpu", "torch": "2.13.0", "devices": ["AMD EPYC"],
    "figures": [{"name": "memory", "subject": "CPU", "unit": "GB/s", "samples": [9.0, 10.0, 11.0]}], "wrong": [],
}  # fmt: skip


def program(folder: Path, lines: str, name: str = "python") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def runner(folder: Path, lines: str) -> EngineBurnIn:
    return EngineBurnIn(python=program(folder, lines), cache=folder, account=None, path=f"{folder}:/usr/bin:/bin")


def run(burner: EngineBurnIn, *, canceled: bool = False) -> BurnInResult:
    return burner.run(Device.CPU, duration_s=1, ranks=1, watch=lambda: None, is_canceled=lambda: canceled)


def test_what_the_program_prints_last_becomes_figures_whatever_pytorch_says_before(tmp_path: Path) -> None:
    result = run(runner(tmp_path, f"echo a warning\necho '{json.dumps(RESULT)}'"))

    assert result.figures == (figure("memory", 10.0, spread=0.1, samples=3),)


@pytest.mark.parametrize(
    ("lines", "said"),
    [("echo no CUDA >&2; exit 3", "exited 3: no CUDA"), ("echo 7", "something else"), ("echo '{}'", "something else")],
)
def test_a_program_that_fails_or_prints_something_else_is_an_error_with_its_words(
    tmp_path: Path, lines: str, said: str
) -> None:
    with pytest.raises(BurnInFailed, match=said):
        run(runner(tmp_path, lines))


def test_an_engine_environment_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BurnInFailed, match="could not be started"):
        run(EngineBurnIn(python=tmp_path / "gone", cache=tmp_path, account=None))


def test_a_burn_in_that_is_canceled_leaves_nothing_running(tmp_path: Path) -> None:
    burner = runner(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait")

    with pytest.raises(Canceled):
        burner.run(
            Device.CPU,
            duration_s=1,
            ranks=1,
            watch=lambda: None,
            is_canceled=lambda: bool((tmp_path / "child").is_file() and (tmp_path / "child").read_text()),
        )

    child = (tmp_path / "child").read_text().strip()
    deadline_s = time.monotonic() + 5  # it is killed already; a busy machine lets it die a little later
    while _runs(child) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not _runs(child)


def _runs(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_node_without_the_makers_diagnostics_has_no_verdict(tmp_path: Path) -> None:
    burner = EngineBurnIn(python=tmp_path / "python", cache=tmp_path, account=None, path=str(tmp_path))

    assert burner.diagnose(level=1, is_canceled=lambda: False) is None


def test_diagnostics_that_find_a_fault_name_the_test(tmp_path: Path) -> None:
    tests = [{"name": "memory", "results": [{"status": "Fail"}]}, {"name": "pcie", "results": [{"status": "Pass"}]}]
    said = json.dumps({"DCGM Diagnostic": {"test_categories": [{"category": "Hardware", "tests": tests}]}})
    program(tmp_path, f"echo '{said}'; exit 226", "dcgmi")

    found = runner(tmp_path, "exit 1").diagnose(level=2, is_canceled=lambda: False)

    assert found == Diagnosis(program="dcgmi diag", level=2, passed=False, failures=("memory",))


def test_diagnostics_that_could_not_run_are_no_pass(tmp_path: Path) -> None:
    program(tmp_path, "echo cannot reach the host engine >&2; exit 1", "dcgmi")

    found = runner(tmp_path, "exit 1").diagnose(level=1, is_canceled=lambda: False)

    assert found is not None
    assert (found.passed, found.failures) == (False, ("cannot reach the host engine",))
    assert failed_tests("no JSON") == ()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(script=Script(tokens=20, gap_s=0.001))
    await engine.start(tmp_path / "engine.sock")
    yield engine
    await engine.stop()


async def test_the_load_asks_as_many_questions_as_it_says_all_different(engine: FakeEngine, tmp_path: Path) -> None:
    meter = EngineLoadMeter(tmp_path / "engine.sock", rounds=2)

    figures = await anyio.to_thread.run_sync(lambda: meter.measure(MODEL, concurrency=3, is_canceled=lambda: False))

    assert [(f.name, f.subject, f.samples) for f in figures] == [
        ("throughput", "1 client", 2),
        ("time-to-first-token", "1 client", 2),
        ("throughput", "3 clients", 2),
        ("time-to-first-token", "3 clients", 6),
    ]
    questions = [seen.body["messages"][0]["content"] for seen in engine.seen]
    assert len(questions) == len(set(questions)) == 1 + 2 + 2 * 3
    assert all(f.value > 0 for f in figures)


async def test_an_engine_that_breaks_off_gives_no_figure(engine: FakeEngine, tmp_path: Path) -> None:
    engine.script.error_after = 3
    meter = EngineLoadMeter(tmp_path / "engine.sock", rounds=1)

    with pytest.raises(EngineNotReady):
        await anyio.to_thread.run_sync(lambda: meter.measure(MODEL, concurrency=1, is_canceled=lambda: False))


async def test_a_load_that_is_canceled_asks_nothing_more(engine: FakeEngine, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(Canceled):
        await anyio.to_thread.run_sync(
            lambda: EngineLoadMeter(tmp_path / "engine.sock").measure(MODEL, concurrency=2, is_canceled=stop.is_set)
        )
    assert engine.seen == []


def test_a_passport_comes_back_as_it_was_and_its_draft_goes(tmp_path: Path) -> None:
    folder = PassportFolder(tmp_path / "passports")
    folder.keep_burn_in(OperationId("op-0"), burn_in())
    folder.keep_burn_in(OperationId("op-1"), burn_in(figure("memory", 10)))
    made = passport(1, figure("memory", 10))

    assert folder.burn_in(OperationId("op-1")) == burn_in(figure("memory", 10))
    folder.keep(made)

    assert folder.passports() == (made,)
    assert [path.name for path in (tmp_path / "passports").iterdir()] == ["op-1.json"]
    with pytest.raises(NotFound):
        folder.burn_in(OperationId("op-1"))


def test_a_passport_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = PassportFolder(tmp_path)
    folder.keep(passport(1))
    (tmp_path / "op-1.json").write_text("{}", encoding="utf-8")

    with pytest.raises(StateUnusable, match=r"op-1\.json"):
        folder.passports()


def test_no_passport_is_looked_for_outside_the_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        PassportFolder(tmp_path).burn_in(OperationId("../../etc/passwd"))
