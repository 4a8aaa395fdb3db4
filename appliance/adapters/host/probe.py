"""Facts of the node, read from /proc, /sys, /etc and the file systems themselves.

Nothing is asked of another program, so a reading takes milliseconds and cannot hang on one. What
cannot be read is `None`, empty or, for what no Linux lacks, an error. `root` moves every path, so
that a copied tree can be read like a node. Disks are measured by `disk_timing`, on request only.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from appliance.adapters.host import kernel, memory, network, pci, storage, surroundings
from appliance.adapters.host.clock import clock_synchronized
from appliance.adapters.host.module_key import module_key
from appliance.adapters.host.packages import packages
from appliance.adapters.host.tree import Tree
from appliance.adapters.nvml import GpuReading, NvmlProbe
from appliance.domain.node import DriverPackages, NodeFacts
from appliance.ports import Clock

WATCHED_PATHS: Final = ("/", "/tmp", "/opt", "/boot", "/dev/shm", "/var/cache/leeward-engine", "/var/lib/leeward")  # noqa: S108  observed, not written to
STATE_PATHS: Final = tuple(f"/var/lib/leeward/{name}" for name in ("store", "slots", "staging"))
STORE: Final = "var/lib/leeward/store/sha256"
_SECURE_BOOT: Final = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""The UEFI global variable: four bytes of attributes, then one byte, 1 where it is on."""
_FABRIC_MANAGER: Final = "nvidia-fabricmanager.service"
_PERSISTENCE: Final = "nvidia-persistenced.service"


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
        ssh_ports: tuple[int, ...] = (22,),
        management_networks: tuple[str, ...] = (),
        synchronized: Callable[[], bool | None] = clock_synchronized,
    ) -> None:
        self._gpus = gpus
        self._clock = clock
        self._tree = Tree(root)
        self._paths = paths
        self._gateway_port = gateway_port
        self._ssh_ports = frozenset(ssh_ports)
        self._management_networks = management_networks
        self._synchronized = synchronized

    def facts(self) -> NodeFacts:
        reading = self._gpus.read()
        services = surroundings.services(self._tree)
        found = self._system(reading, self._tree.path("proc/meminfo").read_text(encoding="utf-8"))
        found = self._with_hardware(found, reading, services)
        return self._with_surroundings(found, services)

    def _system(self, reading: GpuReading, meminfo: str) -> NodeFacts:
        tree, name, os_release = self._tree, os.uname(), self._os_release()
        total, available = kernel.memory_bytes(meminfo)
        tables = self._tcp_tables()
        cpu_count, cpu_flags = kernel.cpus(self._tree.path("proc/cpuinfo").read_text(encoding="utf-8"))
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
            filesystems=tuple(storage.filesystem(tree, path) for path in self._paths),
            default_routes=self._default_routes(),
            secure_boot=self._secure_boot(),
            fips_enabled=tree.word("proc/sys/crypto/fips_enabled") == "1",
            systemd_running=tree.path("run/systemd/system").is_dir(),
            python_version=platform.python_version(),
            clock_synchronized=self._synchronized(),
            driver=reading.driver,
            driver_error=reading.error,
            gpus=reading.gpus,
            listening_tcp_ports=frozenset(port for table in tables for port in kernel.listening_ports(table)),
            management_networks=self._management_networks,
            ssh_clients_outside=self._ssh_clients_outside(tables),
            simulated=("gpus",) if self._gpus.simulated else (),
            kernel_modules=kernel.modules(tree.text("proc/modules") or ""),
            stored_sha256=self._stored_sha256(),
            running_units=self._running_units(),
            gateway_port=self._gateway_port,
            huge_pages_bytes=memory.huge_pages_bytes(meminfo),
            swap_bytes=memory.swap_bytes(meminfo),
            virtualization=surroundings.virtualization(tree, cpu_flags),
        )

    def _with_hardware(self, found: NodeFacts, reading: GpuReading, services: frozenset[str] | None) -> NodeFacts:
        tree, bus = self._tree, pci.bus(self._tree)
        pids = {pid for gpu in reading.gpus for pid in gpu.compute_pids or ()}
        are_known = all(gpu.compute_pids is not None for gpu in reading.gpus)
        installed = packages(tree, found.kernel)
        return replace(
            found,
            pci_gpu_count=bus.gpus,
            gpu_iommu=bus.gpu_iommu,
            acs_redirecting=bus.acs_redirecting,
            gpu_users=surroundings.gpu_users(tree, pids) if reading.driver and are_known else None,
            driver_packages=DriverPackages(
                module_version=tree.word("sys/module/nvidia/version"),
                module_flavour=self._module_flavour(),
                fabric_manager_version=installed.fabric_manager_version,
                fabric_manager_running=None if services is None else _FABRIC_MANAGER in services,
                nvswitches=bus.nvswitches,
                persistence_daemon_running=None if services is None else _PERSISTENCE in services,
            ),
            disks=storage.disks(tree),
            mounts=storage.mounts(tree, (*self._paths, *STATE_PATHS)),
            numa_nodes=memory.numa_nodes(tree),
            memory_ecc=memory.memory_ecc(tree),
            kernel_headers=installed.kernel_headers,
            installed_kernels=installed.installed_kernels,
            dkms_installed=installed.dkms_installed,
            reboot_required=installed.reboot_required,
            unattended_upgrades=installed.unattended_upgrades,
            broken_packages=installed.broken,
            lockdown=surroundings.lockdown(tree),
            module_signatures_enforced=self._module_signatures_enforced(),
            module_key=module_key(tree),
        )

    def _with_surroundings(self, found: NodeFacts, services: frozenset[str] | None) -> NodeFacts:
        tree = self._tree
        return replace(
            found,
            services=services,
            cgroup_unified=surroundings.cgroup_unified(tree),
            umask=surroundings.umask(tree),
            locale=surroundings.locale(tree),
            open_files_maximum=tree.number("proc/sys/fs/nr_open"),
            journal_persistent=surroundings.journal_persistent(tree),
            selinux=surroundings.selinux(tree),
            apparmor=surroundings.apparmor(tree),
            other_engines=surroundings.other_engines(tree),
            interfaces=network.interfaces(tree),
            nameservers=network.nameservers(tree),
            hostname_resolves=network.hostname_resolves(tree, found.hostname),
            time_source=network.time_source(services),
            time_zone=network.time_zone(tree),
            accounts=surroundings.accounts(tree),
            remains=surroundings.remains(tree),
            current_slot=surroundings.current_slot(tree),
            trust_anchored=tree.exists(surroundings.ANCHOR),
        )

    def _os_release(self) -> _OsRelease:
        text = self._tree.text("etc/os-release") or self._tree.text("usr/lib/os-release") or ""
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

    def _default_routes(self) -> tuple[str, ...]:
        ipv4 = kernel.default_routes_ipv4(self._tree.text("proc/net/route") or "")
        ipv6 = kernel.default_routes_ipv6(self._tree.text("proc/net/ipv6_route") or "")
        return (*ipv4, *ipv6)

    def _tcp_tables(self) -> tuple[str, ...]:
        """Return both families' tables of sockets; the kernel makes them anew for each reading, which costs most."""
        return tuple(self._tree.text(f"proc/net/{name}") or "" for name in ("tcp", "tcp6"))

    def _ssh_clients_outside(self, tables: tuple[str, ...]) -> tuple[str, ...]:
        """Return who is logged in over SSH from outside the management networks; with none given, all are within."""
        clients = {each for table in tables for each in kernel.connected_clients(table, self._ssh_ports)}
        return network.outside(clients, self._management_networks)

    def _secure_boot(self) -> bool | None:
        """Return the firmware's word; a machine without UEFI has no Secure Boot."""
        if not self._tree.path("sys/firmware/efi").is_dir():
            return False
        variable = self._tree.read(_SECURE_BOOT) or b""
        return variable[4] == 1 if len(variable) == 5 else None  # noqa: PLR2004  see _SECURE_BOOT

    def _module_flavour(self) -> str | None:
        """Return `open` or `proprietary` for the loaded module, by what it says of itself."""
        said = self._tree.text("proc/driver/nvidia/version")
        if said is None:
            return None
        return "open" if "Open Kernel Module" in said else "proprietary"

    def _module_signatures_enforced(self) -> bool | None:
        word = self._tree.word("sys/module/module/parameters/sig_enforce")
        return None if word is None else word == "Y"

    def _stored_sha256(self) -> frozenset[str]:
        return frozenset(entry.name for entry in self._tree.path(STORE).glob("[0-9a-f][0-9a-f]/*"))

    def _running_units(self) -> frozenset[str]:
        """Return Leeward's units that have a process; systemd removes the control group of one that has none."""
        groups = self._tree.path("sys/fs/cgroup/system.slice").glob("leeward*.service/cgroup.procs")
        return frozenset(group.parent.name for group in groups)
