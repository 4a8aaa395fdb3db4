"""The simulated GPU library, as the stock bindings see it; each test asks a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab import nvml

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the simulated library is built with gcc")

ASK = """
import ctypes, json, sys
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
import pynvml as p
def answer(call, *arguments):
    try:
        return call(*arguments)
    except p.NVMLError as error:
        return str(error)
p.nvmlInit()
told = {"driver": p.nvmlSystemGetDriverVersion(), "cuda": p.nvmlSystemGetCudaDriverVersion(), "gpus": [], "events": []}
events = p.nvmlEventSetCreate()
for index in range(p.nvmlDeviceGetCount()):
    try:
        gpu = p.nvmlDeviceGetHandleByIndex(index)
    except p.NVMLError as error:
        told["gpus"].append(str(error))
        continue
    p.nvmlDeviceRegisterEvents(gpu, p.nvmlEventTypeXidCriticalError, events)
    told["gpus"].append({
        "name": p.nvmlDeviceGetName(gpu), "serial": p.nvmlDeviceGetSerial(gpu), "uuid": p.nvmlDeviceGetUUID(gpu),
        "total": p.nvmlDeviceGetMemoryInfo(gpu).total, "free": p.nvmlDeviceGetMemoryInfo(gpu, p.nvmlMemory_v2).free,
        "celsius": p.nvmlDeviceGetTemperatureV(gpu, 0), "slowdown": p.nvmlDeviceGetTemperatureThreshold(gpu, 1),
        "watts": p.nvmlDeviceGetPowerUsage(gpu) / 1000, "ecc": p.nvmlDeviceGetTotalEccErrors(gpu, 1, 0),
        "remapped": p.nvmlDeviceGetRemappedRows(gpu), "mig": p.nvmlDeviceGetMigMode(gpu),
        "capability": p.nvmlDeviceGetCudaComputeCapability(gpu), "bus": p.nvmlDeviceGetPciInfo(gpu).busId,
        "width": p.nvmlDeviceGetCurrPcieLinkWidth(gpu), "reasons": p.nvmlDeviceGetCurrentClocksEventReasons(gpu),
        "links": [answer(p.nvmlDeviceGetNvLinkState, gpu, link) for link in range(19)],
        "recovery": p.nvmlDeviceGetFieldValues(gpu, [p.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])[0].value.uiVal,
        "processes": p.nvmlDeviceGetComputeRunningProcesses(gpu),
    })
for _ in range(2):
    event = answer(p.nvmlEventSetWait_v2, events, 60)
    told["events"].append(event if isinstance(event, str) else [event.eventType, event.eventData])
first, second = (p.nvmlDeviceGetHandleByIndex(i) for i in (0, 2))
told["p2p"] = p.nvmlDeviceGetP2PStatus(first, second, p.NVML_P2P_CAPS_INDEX_NVLINK)
fabric = p.c_nvmlGpuFabricInfoV_t()
p.nvmlDeviceGetGpuFabricInfoV(first, ctypes.byref(fabric))
told["fabric"] = fabric.state
print(json.dumps(told))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build(tmp_path_factory.mktemp("nvml"))


def ask(library: Path, folder: Path, *faults: str) -> subprocess.CompletedProcess[str]:
    (folder / "faults").write_text("\n".join(faults))
    environment = os.environ | {"MOCK_FAULT_FILE": str(folder / "faults")}
    return subprocess.run(
        [sys.executable, "-c", ASK, library], check=False, capture_output=True, text=True, env=environment
    )


def told(library: Path, folder: Path, *faults: str) -> dict[str, Any]:
    answer = ask(library, folder, *faults)
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def test_the_stock_bindings_see_four_healthy_h200(library: Path, tmp_path: Path) -> None:
    seen = told(library, tmp_path)

    assert (seen["driver"], seen["cuda"], len(seen["gpus"])) == ("580.95.05", 13000, 4)
    for gpu in seen["gpus"]:
        assert gpu["name"] == "NVIDIA H200"
        assert gpu["total"] == 143771 * 2**20
        assert gpu["free"] < gpu["total"]
        assert gpu["capability"] == [9, 0]
        assert gpu["links"] == [1] * 18 + ["Invalid Argument"]
        assert (gpu["ecc"], gpu["remapped"], gpu["mig"], gpu["recovery"]) == (0, [0, 0, 0, 0], [0, 0], 0)
        assert gpu["celsius"] < gpu["slowdown"]
        assert gpu["processes"] == []
    assert len({gpu["uuid"] for gpu in seen["gpus"]}) == 4
    assert len({gpu["bus"] for gpu in seen["gpus"]}) == 4
    assert seen["events"] == ["Timeout", "Timeout"]
    assert (seen["p2p"], seen["fabric"]) == (0, 0)


def test_no_serial_number_can_be_taken_for_a_real_one(library: Path, tmp_path: Path) -> None:
    seen = told(library, tmp_path)

    assert all(gpu["serial"].startswith("SIM") for gpu in seen["gpus"])


def test_a_fault_shows_on_its_gpu_and_on_no_other(library: Path, tmp_path: Path) -> None:
    gpus = told(library, tmp_path, "2:hot", "0:ecc", "3:nvlink", "3:pcie", "3:mig")["gpus"]

    assert [gpu["celsius"] for gpu in gpus] == [38, 39, 92, 41]
    assert [gpu["reasons"] for gpu in gpus] == [1, 1, 0x40, 1]
    assert [gpu["ecc"] for gpu in gpus] == [3, 0, 0, 0]
    assert [gpu["remapped"][2] for gpu in gpus] == [1, 0, 0, 0]
    assert [gpu["recovery"] for gpu in gpus] == [4, 0, 0, 0]
    assert [sum(link == 1 for link in gpu["links"]) for gpu in gpus] == [18, 18, 18, 17]
    assert [gpu["width"] for gpu in gpus] == [16, 16, 16, 8]
    assert [gpu["mig"][0] for gpu in gpus] == [0, 0, 0, 1]


def test_a_lost_gpu_answers_nothing_and_the_others_go_on(library: Path, tmp_path: Path) -> None:
    gpus = told(library, tmp_path, "1:lost")["gpus"]

    assert gpus[1] == "GPU is lost"
    assert [gpu["name"] for gpu in (gpus[0], gpus[2], gpus[3])] == ["NVIDIA H200"] * 3


def test_an_xid_is_told_once_to_an_event_set(library: Path, tmp_path: Path) -> None:
    seen = told(library, tmp_path, "2:xid79")

    assert seen["events"] == [[8, 79], "Timeout"]


def test_settings_in_the_file_replace_name_number_memory_and_driver(library: Path, tmp_path: Path) -> None:
    seen = told(library, tmp_path, "count=8", "name=NVIDIA H100 80GB HBM3", "memory_mib=81559", "driver=535.104.05")

    assert seen["driver"] == "535.104.05"
    assert [gpu["name"] for gpu in seen["gpus"]] == ["NVIDIA H100 80GB HBM3"] * 8
    assert seen["gpus"][7]["total"] == 81559 * 2**20
    assert len({gpu["bus"] for gpu in seen["gpus"]}) == 8


@pytest.mark.parametrize(
    ("driver", "error"), [("none", "NVMLError_DriverNotLoaded"), ("mismatch", "NVMLError_LibRmVersionMismatch")]
)
def test_a_driver_that_is_not_usable_refuses_to_start(library: Path, tmp_path: Path, driver: str, error: str) -> None:
    answer = ask(library, tmp_path, f"driver={driver}")

    assert answer.returncode != 0
    assert error in answer.stderr
    assert answer.stdout == ""
