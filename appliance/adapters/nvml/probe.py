"""GPUs and driver through NVML, the library that comes with NVIDIA's driver.

Rules: a value that NVML does not give is `None`, never zero; a missing driver, an unloaded module
or a lost GPU is said in words and raises nothing; NVML is opened for one reading and closed again,
so that the driver can be replaced while the daemon runs. Field names and numbers: NVML API
reference R580, as in nvidia-ml-py 13.

A GPU that is lost, or whose memory cannot be read, is left out of the list and named in `error`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pynvml

from appliance.domain.node import Driver, Gpu

T = TypeVar("T")

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
    gpus: list[Gpu] = []
    lost: list[str] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_gpu(index, pynvml.nvmlDeviceGetHandleByIndex(index)))
        except pynvml.NVMLError as error:
            lost.append(f"GPU {index}: {error}")
    return GpuReading(driver=driver, error="; ".join(lost) or None, gpus=tuple(gpus))


def _gpu(index: int, handle: Any) -> Gpu:  # noqa: ANN401  pynvml has no types
    """Read one GPU; raises NVMLError where it is lost or lacks a value that every GPU has."""
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    ecc = _optional(lambda: pynvml.nvmlDeviceGetEccMode(handle))
    mig = _optional(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    persistence = _optional(lambda: pynvml.nvmlDeviceGetPersistenceMode(handle))
    remapped = _optional(lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
    utilization = _optional(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    pci = _optional(lambda: pynvml.nvmlDeviceGetPciInfo(handle))
    links = _nvlinks(handle)
    return Gpu(
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        serial=_optional(lambda: pynvml.nvmlDeviceGetSerial(handle)),
        memory_total_bytes=int(memory.total),
        memory_used_bytes=int(memory.used),
        compute_capability=tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
        temperature_c=_temperature(handle),
        power_w=_watts(lambda: pynvml.nvmlDeviceGetPowerUsage(handle)),
        power_limit_w=_watts(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)),
        utilization_percent=None if utilization is None else int(utilization.gpu),
        ecc_enabled=None if ecc is None else ecc[0] == pynvml.NVML_FEATURE_ENABLED,
        ecc_uncorrected=_ecc_errors(handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        ecc_corrected=_ecc_errors(handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        mig_enabled=None if mig is None else mig[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        persistence_enabled=None if persistence is None else persistence == pynvml.NVML_FEATURE_ENABLED,
        row_remap_pending=None if remapped is None else bool(remapped[2]),
        row_remap_failed=None if remapped is None else bool(remapped[3]),
        nvlinks_active=None if links is None else links[0],
        nvlinks_total=None if links is None else links[1],
        pci_bus_id=None if pci is None else _text(pci.busId),
        slowdown_temperature_c=_optional(
            lambda: pynvml.nvmlDeviceGetTemperatureThreshold(handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        ),
        pcie_width=_optional(lambda: int(pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle))),
        pcie_width_maximum=_optional(lambda: int(pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle))),
        recovery_action=_recovery_action(handle),
    )


def _optional(call: Callable[[], T]) -> T | None:
    """Return what the call gives, or `None` where this GPU does not give it; a lost GPU still raises."""
    try:
        return call()
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired):
        raise
    except pynvml.NVMLError:
        return None


def _temperature(handle: Any) -> int | None:  # noqa: ANN401  pynvml has no types
    sensor = pynvml.NVML_TEMPERATURE_GPU
    celsius = _optional(lambda: pynvml.nvmlDeviceGetTemperatureV(handle, sensor))
    if celsius is None:  # drivers before R565 know only the older call
        celsius = _optional(lambda: pynvml.nvmlDeviceGetTemperature(handle, sensor))
    return None if celsius is None else int(celsius)


def _watts(call: Callable[[], int]) -> float | None:
    milliwatts = _optional(call)
    return None if milliwatts is None else milliwatts / 1000


def _ecc_errors(handle: Any, kind: int) -> int | None:  # noqa: ANN401  pynvml has no types
    """Count since the driver was loaded: what lies before belongs to another run."""
    return _optional(lambda: int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_VOLATILE_ECC)))


def _nvlinks(handle: Any) -> tuple[int, int] | None:  # noqa: ANN401  pynvml has no types
    """Return (active, all) links, or `None` where the GPU has none or does not tell."""
    states = [
        state
        for link in range(pynvml.NVML_NVLINK_MAX_LINKS)
        if (state := _optional(lambda link=link: pynvml.nvmlDeviceGetNvLinkState(handle, link))) is not None  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    ]
    return (sum(1 for state in states if state), len(states)) if states else None


def _recovery_action(handle: Any) -> str | None:  # noqa: ANN401  pynvml has no types
    values = _optional(lambda: pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]))
    if not values or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    number = int(values[0].value.uiVal)
    return _RECOVERY_ACTIONS.get(number, f"unknown-{number}")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
