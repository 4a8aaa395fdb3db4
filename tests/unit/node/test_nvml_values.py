"""Unknown stays unknown: NVML's refusals one by one, with NVML's own Python binding patched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pynvml
import pytest

from appliance.adapters.nvml import NvmlProbe


def refuse(code: int) -> Any:  # noqa: ANN401  stands for any NVML call
    def call(*_: object) -> NoReturn:
        raise pynvml.NVMLError(code)

    return call


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One GPU that answers what every GPU answers, and refuses the rest as not supported."""
    for name in dir(pynvml):
        if name.startswith("nvmlDeviceGet"):
            monkeypatch.setattr(pynvml, name, refuse(pynvml.NVML_ERROR_NOT_SUPPORTED))
    answers = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlSystemGetDriverVersion": "580.1",
        "nvmlSystemGetCudaDriverVersion": 12_080,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80, used=1),
        "nvmlDeviceGetName": "NVIDIA Something",
        "nvmlDeviceGetUUID": "GPU-1",
        "nvmlDeviceGetCudaComputeCapability": (8, 9),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)
    return monkeypatch


OPTIONAL = [
    "serial",
    "temperature_c",
    "power_w",
    "power_limit_w",
    "utilization_percent",
    "ecc_enabled",
    "ecc_uncorrected",
    "ecc_corrected",
    "mig_enabled",
    "persistence_enabled",
    "row_remap_pending",
    "row_remap_failed",
    "nvlinks_active",
    "nvlinks_total",
    "pci_bus_id",
    "slowdown_temperature_c",
    "recovery_action",
    "pcie_width",
    "pcie_width_maximum",
    "ecc_pending",
    "mig_pending",
    "vbios_version",
    "board_part_number",
    "power_limit_default_w",
    "pcie_generation",
    "pcie_generation_maximum",
    "pcie_generation_gpu",
    "nvlink_peers",
    "fabric_state",
    "fabric_health",
    "rows_remapped_uncorrected",
    "retired_pages",
    "retired_pages_pending",
    "clocks_event_reasons",
    "compute_pids",
    "numa_node",
]


@pytest.mark.usefixtures("one_gpu")
def test_what_a_gpu_does_not_tell_is_none_and_never_zero() -> None:
    reading = NvmlProbe().read()

    (gpu,) = reading.gpus
    assert {name: getattr(gpu, name) for name in OPTIONAL} == dict.fromkeys(OPTIONAL)
    assert reading.error is None
    assert reading.driver is not None
    assert reading.driver.cuda_version == (12, 8)


def test_an_older_driver_tells_its_temperature_the_older_way(one_gpu: pytest.MonkeyPatch) -> None:
    one_gpu.setattr(pynvml, "nvmlDeviceGetTemperatureV", refuse(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND))
    one_gpu.setattr(pynvml, "nvmlDeviceGetTemperature", lambda *_: 41)

    (gpu,) = NvmlProbe().read().gpus

    assert gpu.temperature_c == 41


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED])
def test_a_gpu_that_is_lost_halfway_is_left_out_whole(one_gpu: pytest.MonkeyPatch, code: int) -> None:
    one_gpu.setattr(pynvml, "nvmlDeviceGetEccMode", refuse(code))

    reading = NvmlProbe().read()

    assert reading.gpus == ()
    assert reading.error is not None
    assert reading.error.startswith("GPU 0: ")


def test_a_driver_unloaded_during_the_reading_is_said_and_closed_without_a_fuss(one_gpu: pytest.MonkeyPatch) -> None:
    one_gpu.setattr(pynvml, "nvmlDeviceGetCount", refuse(pynvml.NVML_ERROR_UNINITIALIZED))
    one_gpu.setattr(pynvml, "nvmlShutdown", refuse(pynvml.NVML_ERROR_UNINITIALIZED))

    reading = NvmlProbe().read()

    assert (reading.driver, reading.gpus) == (None, ())
    assert "stopped answering" in str(reading.error)
