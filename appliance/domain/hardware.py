"""Observed values of a node's hardware: GPUs, their driver, disks, memory and links.

`None` means that the value could not be read, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    pci_bus_id: str | None = None
    slowdown_temperature_c: int | None = None
    pcie_width: int | None = None
    pcie_width_maximum: int | None = None
    recovery_action: str | None = None
    """The driver's own verdict (NVML field 230), such as `gpu-reset`; `none` where all is well."""
    ecc_pending: bool | None = None
    """ECC mode after the next reset."""
    mig_pending: bool | None = None
    """MIG mode after the next reset."""
    vbios_version: str | None = None
    board_part_number: str | None = None
    power_limit_default_w: float | None = None
    pcie_generation: int | None = None
    """Now; an idle link may rest at 1."""
    pcie_generation_maximum: int | None = None
    """The most that GPU and slot reach together."""
    pcie_generation_gpu: int | None = None
    """The most that the GPU reaches in any slot."""
    nvlink_peers: tuple[str, ...] | None = None
    """PCI addresses at the other ends of active links, each once; `switch` for an NVSwitch."""
    p2p_nvlink: frozenset[int] | None = None
    """Indices of the GPUs whose memory is reached over NVLink."""
    p2p_pcie: frozenset[int] | None = None
    """Indices of the GPUs whose memory can be read at all, over NVLink or PCIe."""
    fabric_state: str | None = None
    """`not-supported`, `not-started`, `in-progress` or `completed`; a GPU without NVSwitch has no fabric."""
    fabric_health: str | None = None
    """`not-supported`, `healthy` or `unhealthy`."""
    rows_remapped_uncorrected: int | None = None
    retired_pages: int | None = None
    retired_pages_pending: bool | None = None
    clocks_event_reasons: tuple[str, ...] | None = None
    """What holds the clocks back now; `idle` is harmless."""
    compute_pids: tuple[int, ...] | None = None
    numa_node: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The GPU driver as NVML shows it."""

    version: str
    cuda_version: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPackages:
    """What is installed and loaded of NVIDIA's software, seen without NVML.

    `module_version` and `module_flavour` (`open` or `proprietary`) are of the loaded module.
    """

    module_version: str | None = None
    module_flavour: str | None = None
    fabric_manager_version: str | None = None
    fabric_manager_running: bool | None = None
    nvswitches: int | None = None
    """NVSwitch bridges on the PCI bus."""
    persistence_daemon_running: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """One disk of /sys/block that holds something; loop and RAM disks are left out."""

    name: str
    size_bytes: int
    rotational: bool | None
    read_only: bool
    removable: bool
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTiming:
    """Measured on the file system of `path`: bytes a second, and seconds for one durable write.

    `source` says what was read: `device` (the block device itself, past every cache of the node) or
    `file` (a file on it). `sync_p99_s` is the slowest of a hundred writes of 4 KiB with fdatasync.
    """

    path: str
    source: str
    read_bytes_per_s: float | None = None
    write_bytes_per_s: float | None = None
    sync_p99_s: float | None = None
    syncs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """Room and options of the file system that holds `path`."""

    path: str
    total_bytes: int
    free_bytes: int
    noexec: bool
    device: str = ""
    """`major:minor`, equal for two paths on one file system; empty where unknown."""
    free_inodes: int | None = None
    """`None` also where the file system makes inodes as it needs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount that matters to a path of Leeward; `options` hold those of the mount and of its super block."""

    path: str
    kind: str
    options: frozenset[str]
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface other than the loopback; `up` means that it has a carrier."""

    name: str
    up: bool
    mtu: int
    speed_mbps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """One NUMA node: memory and processors that are near each other."""

    index: int
    memory_bytes: int
    cpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEcc:
    """What the kernel's EDAC drivers say: memory controllers, and errors since they were loaded."""

    controllers: int
    corrected: int
    uncorrected: int
