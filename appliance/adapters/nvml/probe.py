"""GPUs and driver through NVML, the library that comes with NVIDIA's driver.

Rules: a value that NVML does not give is `None`, never zero; a missing driver, an unloaded module
or a lost GPU is said in words and raises nothing; NVML is opened for one reading and closed again,
so that the driver can be replaced while the daemon runs. Field names and numbers: NVML API
reference R580, as in nvidia-ml-py 13.

A GPU that is lost, or whose memory cannot be read, is left out of the list and named in `error`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final

import pynvml

from appliance.adapters.nvml import links
from appliance.adapters.nvml.asking import number, optional, text
from appliance.domain.node import Driver, Gpu

_RECOVERY_ACTIONS: Final = {
    pynvml.NVML_GPU_RECOVERY_ACTION_NONE: "none",
    pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET: "gpu-reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT: "node-reboot",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_P2P: "drain-p2p",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET: "drain-and-reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_RECOVER_IMEX_DOMAIN: "recover-imex-domain",
    pynvml.NVML_GPU_RECOVERY_ACTION_BUS_RESET: "bus-reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_SYSTEM_REBOOT: "system-reboot",
}
_CLOCKS_EVENT_REASONS: Final = {
    pynvml.nvmlClocksEventReasonGpuIdle: "idle",
    pynvml.nvmlClocksEventReasonApplicationsClocksSetting: "clocks-setting",
    pynvml.nvmlClocksEventReasonSwPowerCap: "power-cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware-slowdown",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync-boost",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "thermal-slowdown",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "hardware-thermal-slowdown",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power-brake",
    pynvml.nvmlClocksEventReasonDisplayClockSetting: "display-clocks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One reading. `error` is for a person and `None` where every GPU answered."""

    driver: Driver | None
    error: str | None
    gpus: tuple[Gpu, ...]


class NvmlProbe:
    """Reads driver and GPUs; thread-safe. `simulated` says that the library below is a twin."""

    def __init__(self, *, simulated: bool = False) -> None:
        self.simulated = simulated
        self._lock = threading.Lock()

    def read(self) -> GpuReading:
        """Observe driver and GPUs; raises nothing for missing or broken hardware."""
        with self._lock:
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as error:
                return GpuReading(driver=None, error=_cannot_start(error), gpus=())
            try:
                return _reading()
            except pynvml.NVMLError as error:
                return GpuReading(driver=None, error=f"NVML stopped answering: {error}", gpus=())
            finally:
                _close()


def _close() -> None:
    try:
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return  # the driver went away meanwhile; there is nothing left to close


def _cannot_start(error: pynvml.NVMLError) -> str:
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        return "no GPU driver is installed: libnvidia-ml.so.1 is not there"
    if isinstance(error, pynvml.NVMLError_DriverNotLoaded):
        return "the GPU driver is installed, but its kernel module is not loaded"
    if isinstance(error, pynvml.NVMLError_LibRmVersionMismatch):
        return "the loaded kernel module and the driver library are of different versions; a restart loads the new one"
    return f"NVML does not start: {error}"


def _reading() -> GpuReading:
    version = pynvml.nvmlSystemGetDriverVersion()
    cuda = pynvml.nvmlSystemGetCudaDriverVersion()
    driver = Driver(version=version, cuda_version=(cuda // 1000, cuda % 1000 // 10))
    handles: dict[int, Any] = {}
    lost: list[str] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handles[index] = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            lost.append(f"GPU {index}: {error}")
    gpus: list[Gpu] = []
    for index, handle in handles.items():
        try:
            gpus.append(_gpu(index, handle, handles))
        except pynvml.NVMLError as error:
            lost.append(f"GPU {index}: {error}")
    return GpuReading(driver=driver, error="; ".join(sorted(lost)) or None, gpus=tuple(gpus))


def _gpu(index: int, handle: Any, handles: dict[int, Any]) -> Gpu:  # noqa: ANN401  pynvml has no types
    """Read one GPU; raises NVMLError where it is lost or lacks a value that every GPU has."""
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        serial=text("nvmlDeviceGetSerial", handle),
        memory_total_bytes=int(memory.total),
        memory_used_bytes=int(memory.used),
        compute_capability=tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
        recovery_action=_recovery_action(handle),
        compute_pids=_compute_pids(handle),
        **_identity(handle),
        **_errors(handle),
        **_load(handle),
        **_modes(handle),
        **links.pcie(handle),
        **links.nvlink(handle),
        **links.peers(index, handles),
        **links.fabric(handle),
    )


def _identity(handle: Any) -> dict[str, Any]:  # noqa: ANN401  pynvml has no types
    pci = optional(pynvml.nvmlDeviceGetPciInfo, handle)
    return {
        "pci_bus_id": None if pci is None else _decoded(pci.busId),
        "vbios_version": text("nvmlDeviceGetVbiosVersion", handle),
        "board_part_number": text("nvmlDeviceGetBoardPartNumber", handle),
        "numa_node": number("nvmlDeviceGetNumaNodeId", handle),
    }


def _errors(handle: Any) -> dict[str, Any]:  # noqa: ANN401  pynvml has no types
    remapped = optional(pynvml.nvmlDeviceGetRemappedRows, handle)
    retired = [
        optional(pynvml.nvmlDeviceGetRetiredPages, handle, cause)
        for cause in range(pynvml.NVML_PAGE_RETIREMENT_CAUSE_COUNT)
    ]
    pending = number("nvmlDeviceGetRetiredPagesPendingStatus", handle)
    return {
        "ecc_uncorrected": _ecc_errors(handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        "ecc_corrected": _ecc_errors(handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        "row_remap_pending": None if remapped is None else bool(remapped[2]),
        "row_remap_failed": None if remapped is None else bool(remapped[3]),
        "rows_remapped_uncorrected": None if remapped is None else int(remapped[1]),
        "retired_pages": sum(len(pages or ()) for pages in retired) if None not in retired else None,
        "retired_pages_pending": None if pending is None else pending == pynvml.NVML_FEATURE_ENABLED,
    }


def _load(handle: Any) -> dict[str, Any]:  # noqa: ANN401  pynvml has no types
    utilization = optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
    threshold = pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
    return {
        "temperature_c": _temperature(handle),
        "slowdown_temperature_c": number("nvmlDeviceGetTemperatureThreshold", handle, threshold),
        "power_w": _watts("nvmlDeviceGetPowerUsage", handle),
        "power_limit_w": _watts("nvmlDeviceGetEnforcedPowerLimit", handle),
        "power_limit_default_w": _watts("nvmlDeviceGetPowerManagementDefaultLimit", handle),
        "utilization_percent": None if utilization is None else int(utilization.gpu),
        "clocks_event_reasons": _clocks_event_reasons(handle),
    }


def _modes(handle: Any) -> dict[str, Any]:  # noqa: ANN401  pynvml has no types
    ecc = optional(pynvml.nvmlDeviceGetEccMode, handle)
    mig = optional(pynvml.nvmlDeviceGetMigMode, handle)
    persistence = number("nvmlDeviceGetPersistenceMode", handle)
    enabled, mig_enabled = pynvml.NVML_FEATURE_ENABLED, pynvml.NVML_DEVICE_MIG_ENABLE
    return {
        "ecc_enabled": None if ecc is None else ecc[0] == enabled,
        "ecc_pending": None if ecc is None else ecc[1] == enabled,
        "mig_enabled": None if mig is None else mig[0] == mig_enabled,
        "mig_pending": None if mig is None else mig[1] == mig_enabled,
        "persistence_enabled": None if persistence is None else persistence == enabled,
    }


def _temperature(handle: Any) -> int | None:  # noqa: ANN401  pynvml has no types
    sensor = pynvml.NVML_TEMPERATURE_GPU
    celsius = number("nvmlDeviceGetTemperatureV", handle, sensor)
    # Drivers before R565 know only the older call.
    return number("nvmlDeviceGetTemperature", handle, sensor) if celsius is None else celsius


def _watts(call: str, handle: Any) -> float | None:  # noqa: ANN401  pynvml has no types
    milliwatts = number(call, handle)
    return None if milliwatts is None else milliwatts / 1000


def _ecc_errors(handle: Any, kind: int) -> int | None:  # noqa: ANN401  pynvml has no types
    """Count since the driver was loaded: what lies before belongs to another run."""
    return number("nvmlDeviceGetTotalEccErrors", handle, kind, pynvml.NVML_VOLATILE_ECC)


def _clocks_event_reasons(handle: Any) -> tuple[str, ...] | None:  # noqa: ANN401  pynvml has no types
    mask = number("nvmlDeviceGetCurrentClocksEventReasons", handle)
    return None if mask is None else tuple(name for bit, name in _CLOCKS_EVENT_REASONS.items() if mask & bit)


def _compute_pids(handle: Any) -> tuple[int, ...] | None:  # noqa: ANN401  pynvml has no types
    processes = optional(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
    return None if processes is None else tuple(sorted(int(process.pid) for process in processes))


def _recovery_action(handle: Any) -> str | None:  # noqa: ANN401  pynvml has no types
    values = optional(pynvml.nvmlDeviceGetFieldValues, handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    if not values or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    action = int(values[0].value.uiVal)
    return _RECOVERY_ACTIONS.get(action, f"unknown-{action}")


def _decoded(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
