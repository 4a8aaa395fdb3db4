"""Observed values of a node. `None` means that the value could not be read, never zero.

`redacted` takes out what names a machine or its network, so that facts may leave a site; what the
checks look at stays as it was.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
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
    pci_bus_id: str | None = None
    slowdown_temperature_c: int | None = None
    pcie_width: int | None = None
    pcie_width_maximum: int | None = None
    recovery_action: str | None = None
    """The driver's own verdict (NVML field 230), such as `gpu-reset`; `none` where all is well."""


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
    device: str = ""
    """`major:minor`, equal for two paths on one file system; empty where unknown."""


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
    kernel_modules: frozenset[str] = frozenset()
    pci_gpu_count: int | None = None
    """NVIDIA 3D and display controllers on the PCI bus, seen without a driver."""
    stored_sha256: frozenset[str] = frozenset()
    """Digests that the store already holds, so that an import need not make room for them."""
    running_units: frozenset[str] = frozenset()
    """Units of Leeward whose control group holds processes."""
    gateway_port: int = 8443
    """The port that the site's configuration gives to the gateway."""

    def filesystem(self, path: str) -> Filesystem | None:
        """Return the observation for `path`, or `None` where it was not observed."""
        return next((f for f in self.filesystems if f.path == path), None)


def redacted(facts: NodeFacts) -> NodeFacts:
    """Return the facts without host name, serial numbers and addresses; UUIDs become pseudonyms."""
    return replace(
        facts,
        hostname="node",
        default_routes=tuple(_without_address(route) for route in facts.default_routes),
        gpus=tuple(
            replace(gpu, serial=None, uuid="GPU-" + hashlib.sha256(gpu.uuid.encode()).hexdigest()[:12])
            for gpu in facts.gpus
        ),
    )


def _without_address(route: str) -> str:
    words = route.split()
    hidden = ["[address]" if before == "via" else word for before, word in zip(["", *words], words, strict=False)]
    return " ".join(hidden)
