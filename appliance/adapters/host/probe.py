"""Facts of the node, read from /proc, /sys, /etc and the file systems themselves.

Nothing is asked of another program, so a reading takes milliseconds and cannot hang on one. What
cannot be read is `None`, empty or, for what no Linux lacks, an error. `root` moves every path, so
that a copied tree can be read like a node.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.adapters.host import kernel
from appliance.adapters.host.clock import clock_synchronized
from appliance.adapters.nvml import NvmlProbe
from appliance.domain.node import Filesystem, NodeFacts
from appliance.ports import Clock

WATCHED_PATHS: Final = ("/", "/tmp", "/opt", "/dev/shm", "/var/cache/leeward-engine", "/var/lib/leeward")  # noqa: S108  observed, not written to
STORE: Final = "/var/lib/leeward/store/sha256"
_SECURE_BOOT: Final = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""The UEFI global variable: four bytes of attributes, then one byte, 1 where it is on."""
_NVIDIA_VENDOR: Final = "0x10de"
_DISPLAY_CLASSES: Final = ("0x0300", "0x0302")
"""PCI class codes of a VGA controller and of a 3D controller (PCI Code and ID Assignment, 1.11)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OsRelease:
    id: str
    version: str
    pretty_name: str


class HostProbe:
    """`ports.NodeProbe` for the machine that it runs on."""

    def __init__(
        self,
        *,
        gpus: NvmlProbe,
        clock: Clock,
        root: Path = Path("/"),
        paths: tuple[str, ...] = WATCHED_PATHS,
        gateway_port: int = 8443,
        synchronized: Callable[[], bool | None] = clock_synchronized,
    ) -> None:
        self._gpus = gpus
        self._clock = clock
        self._root = root
        self._paths = paths
        self._gateway_port = gateway_port
        self._synchronized = synchronized

    def facts(self) -> NodeFacts:
        reading = self._gpus.read()
        name = os.uname()
        os_release = self._os_release()
        total, available = kernel.memory_bytes(self._read("proc/meminfo"))
        cpu_count, cpu_flags = kernel.cpus(self._read("proc/cpuinfo"))
        return NodeFacts(
            observed_at=self._clock.now(),
            hostname=name.nodename,
            os_id=os_release.id,
            os_version=os_release.version,
            os_pretty_name=os_release.pretty_name,
            kernel=name.release,
            architecture=name.machine,
            cpu_count=cpu_count,
            cpu_flags=cpu_flags,
            memory_total_bytes=total,
            memory_available_bytes=available,
            filesystems=tuple(self._filesystem(path) for path in self._paths),
            default_routes=self._default_routes(),
            secure_boot=self._secure_boot(),
            fips_enabled=self._read_or("proc/sys/crypto/fips_enabled", "0").strip() == "1",
            systemd_running=self._path("run/systemd/system").is_dir(),
            python_version=platform.python_version(),
            clock_synchronized=self._synchronized(),
            driver=reading.driver,
            driver_error=reading.error,
            gpus=reading.gpus,
            listening_tcp_ports=self._listening_ports(),
            simulated=("gpus",) if self._gpus.simulated else (),
            kernel_modules=kernel.modules(self._read_or("proc/modules", "")),
            pci_gpu_count=self._pci_gpu_count(),
            stored_sha256=self._stored_sha256(),
            running_units=self._running_units(),
            gateway_port=self._gateway_port,
        )

    def _path(self, relative: str) -> Path:
        return self._root / relative.lstrip("/")

    def _read(self, relative: str) -> str:
        return self._path(relative).read_text(encoding="utf-8", errors="replace")

    def _read_or(self, relative: str, default: str) -> str:
        try:
            return self._read(relative)
        except OSError:
            return default

    def _os_release(self) -> _OsRelease:
        text = self._read_or("etc/os-release", "") or self._read_or("usr/lib/os-release", "")
        values = {}
        for line in text.splitlines():
            key, separator, value = line.partition("=")
            if separator:
                values[key.strip()] = value.strip().strip("\"'")
        unknown = "unknown"
        return _OsRelease(
            id=values.get("ID", unknown),
            version=values.get("VERSION_ID", unknown),
            pretty_name=values.get("PRETTY_NAME", values.get("NAME", unknown)),
        )

    def _filesystem(self, path: str) -> Filesystem:
        """Observe the file system that holds `path`, or that would hold it once it is made."""
        place = self._path(path)
        while not place.exists():
            place = place.parent
        status = os.statvfs(place)
        device = place.stat().st_dev
        return Filesystem(
            path=path,
            total_bytes=status.f_blocks * status.f_frsize,
            free_bytes=status.f_bavail * status.f_frsize,
            noexec=bool(status.f_flag & os.ST_NOEXEC),
            device=f"{os.major(device)}:{os.minor(device)}",
        )

    def _default_routes(self) -> tuple[str, ...]:
        ipv4 = kernel.default_routes_ipv4(self._read_or("proc/net/route", ""))
        ipv6 = kernel.default_routes_ipv6(self._read_or("proc/net/ipv6_route", ""))
        return (*ipv4, *ipv6)

    def _listening_ports(self) -> frozenset[int]:
        tables = (self._read_or(f"proc/net/{name}", "") for name in ("tcp", "tcp6"))
        return frozenset(port for table in tables for port in kernel.listening_ports(table))

    def _secure_boot(self) -> bool | None:
        """Return the firmware's word; a machine without UEFI has no Secure Boot."""
        if not self._path("sys/firmware/efi").is_dir():
            return False
        try:
            variable = self._path(_SECURE_BOOT).read_bytes()
        except OSError:
            return None
        return variable[4] == 1 if len(variable) == 5 else None  # noqa: PLR2004  see _SECURE_BOOT

    def _pci_gpu_count(self) -> int | None:
        try:
            devices = sorted(self._path("sys/bus/pci/devices").iterdir())
        except OSError:
            return None
        count = 0
        for device in devices:
            relative = f"sys/bus/pci/devices/{device.name}"
            vendor = self._read_or(f"{relative}/vendor", "").strip()
            kind = self._read_or(f"{relative}/class", "").strip()
            count += vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASSES)
        return count

    def _stored_sha256(self) -> frozenset[str]:
        return frozenset(entry.name for entry in self._path(STORE).glob("[0-9a-f][0-9a-f]/*"))

    def _running_units(self) -> frozenset[str]:
        """Return Leeward's units that have a process; systemd removes the control group of one that has none."""
        groups = self._path("sys/fs/cgroup/system.slice").glob("leeward*.service/cgroup.procs")
        return frozenset(group.parent.name for group in groups)
