"""Observed values of a node. `None` means that the value could not be read, never zero."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as NVML shows it. Source of the names: NVML API reference, R580."""

    index: int
    name: str
    uuid: str
    serial: str | None
    memory_total_bytes: int
    memory_used_bytes: int
    compute_capability: tuple[int, int]
    temperature_c: int | None
    power_w: float | None
    power_limit_w: float | None
    utilization_percent: int | None
    ecc_enabled: bool | None
    ecc_uncorrected: int | None
    ecc_corrected: int | None
    mig_enabled: bool | None
    persistence_enabled: bool | None
    row_remap_pending: bool | None
    row_remap_failed: bool | None
    nvlinks_active: int | None
    nvlinks_total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The GPU driver as NVML shows it."""

    version: str
    cuda_version: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """Room and options of the file system that holds `path`."""

    path: str
    total_bytes: int
    free_bytes: int
    noexec: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """One observation of one node at one time."""

    observed_at: datetime
    hostname: str
    os_id: str
    os_version: str
    os_pretty_name: str
    kernel: str
    architecture: str
    cpu_count: int
    cpu_flags: frozenset[str]
    memory_total_bytes: int
    memory_available_bytes: int
    filesystems: tuple[Filesystem, ...]
    default_routes: tuple[str, ...]
    secure_boot: bool | None
    fips_enabled: bool
    systemd_running: bool
    python_version: str
    clock_synchronized: bool | None
    driver: Driver | None
    driver_error: str | None
    gpus: tuple[Gpu, ...]
    listening_tcp_ports: frozenset[int]
    simulated: tuple[str, ...]
