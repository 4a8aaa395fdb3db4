"""What NVML says, and what it does not say, through the simulated library in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.adapters.nvml import NvmlProbe
from tests.lab.nvml import build

CHECKOUT = Path(__file__).parents[3]
READ = """
import json, sys
from pathlib import Path
from appliance.adapters.simulated import preload_mock_nvml
from appliance.domain.wire import to_plain
probe = preload_mock_nvml(Path(sys.argv[1]))
reading = probe.read()
print(json.dumps({"simulated": probe.simulated, **to_plain(reading)}))
"""
READ_TWICE = (
    READ
    + """
Path(sys.argv[2]).write_text(sys.argv[3])
print(json.dumps(to_plain(probe.read())))
"""
)
WRONG_LIBRARY = """
import sys
from pathlib import Path
from appliance.adapters.simulated import preload_mock_nvml
from appliance.domain.errors import ConfigInvalid
try:
    preload_mock_nvml(Path(sys.argv[1]))
except ConfigInvalid as error:
    print(error.detail)
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


def run(script: str, *arguments: str, faults: Path | None = None) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
        env={**os.environ, "MOCK_FAULT_FILE": str(faults or "/nonexistent")},
    )
    return done.stdout.splitlines()


def read(library: Path, faults: str, tmp_path: Path) -> dict[str, Any]:
    place = tmp_path / "faults"
    place.write_text(faults)
    (line,) = run(READ, str(library), faults=place)
    reading: dict[str, Any] = json.loads(line)
    return reading


def test_four_simulated_gpus_are_read_and_called_simulated(library: Path, tmp_path: Path) -> None:
    reading = read(library, "", tmp_path)

    assert reading["simulated"] is True
    assert reading["error"] is None
    assert reading["driver"] == {"version": "580.95.05", "cuda_version": [13, 0]}
    assert [gpu["index"] for gpu in reading["gpus"]] == [0, 1, 2, 3]
    first = reading["gpus"][0]
    assert (first["name"], first["memory_total_bytes"]) == ("NVIDIA H200", 143_771 * 1024**2)
    assert first["compute_capability"] == [9, 0]
    assert (first["nvlinks_active"], first["nvlinks_total"]) == (18, 18)
    assert (first["ecc_enabled"], first["mig_enabled"], first["persistence_enabled"]) == (True, False, True)
    assert first["recovery_action"] == "none"


def test_a_lost_gpu_is_left_out_and_named(library: Path, tmp_path: Path) -> None:
    reading = read(library, "1:lost\n", tmp_path)

    assert [gpu["index"] for gpu in reading["gpus"]] == [0, 2, 3]
    assert reading["error"] == "GPU 1: GPU is lost"
    assert reading["driver"] is not None


def test_errors_rows_links_heat_and_mig_are_told(library: Path, tmp_path: Path) -> None:
    reading = read(library, "0:ecc\n1:remapfail\n2:hot\n3:nvlink\n3:mig\n", tmp_path)

    gpus = reading["gpus"]
    assert (gpus[0]["ecc_uncorrected"], gpus[0]["row_remap_pending"]) == (3, True)
    assert gpus[0]["recovery_action"] == "drain-and-reset"
    assert (gpus[1]["row_remap_failed"], gpus[1]["recovery_action"]) == (True, "gpu-reset")
    assert gpus[2]["temperature_c"] == 92
    assert (gpus[3]["nvlinks_active"], gpus[3]["nvlinks_total"], gpus[3]["mig_enabled"]) == (17, 18, True)
    assert gpus[2]["ecc_uncorrected"] == 0


def test_links_peers_and_modes_to_come_are_told(library: Path, tmp_path: Path) -> None:
    reading = read(library, "1:p2p\n2:pending\n3:slot\n3:capped\n", tmp_path)

    gpus = reading["gpus"]
    addresses = [gpu["pci_bus_id"] for gpu in gpus]
    assert gpus[0]["nvlink_peers"] == addresses[1:]
    assert (gpus[0]["p2p_nvlink"], gpus[0]["p2p_pcie"]) == ([2, 3], [2, 3])
    assert (gpus[1]["p2p_nvlink"], gpus[1]["p2p_pcie"]) == ([], [])
    assert (gpus[2]["ecc_enabled"], gpus[2]["ecc_pending"]) == (True, False)
    assert (gpus[2]["mig_enabled"], gpus[2]["mig_pending"]) == (False, True)
    assert (gpus[3]["pcie_generation_maximum"], gpus[3]["pcie_generation_gpu"]) == (4, 5)
    assert (gpus[3]["power_limit_w"], gpus[3]["power_limit_default_w"]) == (350.0, 700.0)
    assert gpus[0]["retired_pages"] is None
    assert gpus[0]["clocks_event_reasons"] == ["idle"]
    assert gpus[0]["compute_pids"] == []
    assert gpus[0]["vbios_version"] == "96.00.9F.00.01"
    assert {gpu["fabric_state"] for gpu in gpus} == {"not-supported"}


def test_switches_have_a_fabric_and_a_gpu_that_has_not_joined_it_is_told(library: Path, tmp_path: Path) -> None:
    reading = read(library, "switches=yes\n2:fabric\n", tmp_path)

    assert [gpu["fabric_state"] for gpu in reading["gpus"]] == ["completed", "completed", "in-progress", "completed"]
    assert {gpu["fabric_health"] for gpu in reading["gpus"]} == {"healthy"}
    assert {tuple(gpu["nvlink_peers"]) for gpu in reading["gpus"]} == {("switch",)}


@pytest.mark.parametrize(
    ("driver", "words"),
    [("none", "kernel module is not loaded"), ("mismatch", "of different versions")],
)
def test_a_driver_that_does_not_start_is_said_in_words(library: Path, tmp_path: Path, driver: str, words: str) -> None:
    reading = read(library, f"driver={driver}\n", tmp_path)

    assert reading["driver"] is None
    assert reading["gpus"] == []
    assert words in reading["error"]


def test_a_driver_that_goes_away_between_two_readings_is_noticed(library: Path, tmp_path: Path) -> None:
    faults = tmp_path / "faults"
    faults.write_text("")

    before, after = map(json.loads, run(READ_TWICE, str(library), str(faults), "driver=none\n", faults=faults))

    assert len(before["gpus"]) == 4
    assert (after["driver"], after["gpus"]) == (None, [])


def test_a_machine_without_the_library_has_no_driver_and_raises_nothing() -> None:
    (line,) = run("from appliance.adapters.nvml import NvmlProbe; print(NvmlProbe().read())", faults=None)

    assert "driver=None" in line
    assert "libnvidia-ml.so.1 is not there" in line
    assert NvmlProbe().simulated is False


def test_a_simulated_library_that_is_none_is_refused(tmp_path: Path) -> None:
    fake = tmp_path / "libnvidia-ml.so.1"
    fake.write_text("not a library")

    (line,) = run(WRONG_LIBRARY, str(fake))

    assert "does not load" in line


def test_a_simulated_library_with_another_name_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text("int nvmlInit_v2(void) { return 0; }\n")
    other = tmp_path / "other.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(other), str(source)], check=True)

    (line,) = run(WRONG_LIBRARY, str(other))

    assert "does not load" in line or "still names another library" in line
