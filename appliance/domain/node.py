"""Observed values of a node. `None` means that the value could not be read, never zero.

`redacted` takes out what names a machine or its network, so that facts may leave a site; what the
checks look at stays as it was.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field, replace
from datetime import datetime

from appliance.domain.hardware import (
    BlockDevice,
    DiskTiming,
    Driver,
    DriverPackages,
    Filesystem,
    Gpu,
    Interface,
    MemoryEcc,
    Mount,
    NumaNode,
)

__all__ = [
    "Account",
    "BlockDevice",
    "DiskTiming",
    "Driver",
    "DriverPackages",
    "Filesystem",
    "Gpu",
    "Interface",
    "MemoryEcc",
    "Mount",
    "NodeFacts",
    "NumaNode",
    "redacted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account that Leeward uses, or that shares its number; `shell` is its login program."""

    name: str
    uid: int
    shell: str


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

    # -- storage
    disks: tuple[BlockDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    """The mounts that hold the paths of Leeward, as the first process sees them."""
    disk_timings: tuple[DiskTiming, ...] = ()
    """Empty where nothing was measured; preflight and `leeward facts` measure, health does not."""

    # -- memory and processors
    numa_nodes: tuple[NumaNode, ...] = ()
    memory_ecc: MemoryEcc | None = None
    huge_pages_bytes: int | None = None
    """Memory set aside for huge pages, which nothing else can use."""
    swap_bytes: int | None = None
    virtualization: str | None = None
    """`none`, `machine` (a virtual one) or `container`."""

    # -- GPUs beside NVML
    driver_packages: DriverPackages = field(default_factory=DriverPackages)
    gpu_iommu: frozenset[str] | None = None
    """How the IOMMU treats the GPUs: `off`, `identity` (passed through) or `translated`."""
    acs_redirecting: tuple[str, ...] | None = None
    """PCI bridges whose ACS sends traffic between GPUs up to the root complex."""
    gpu_users: tuple[str, ...] | None = None
    """Programs on the GPUs that are not Leeward's engine: name and number."""

    # -- kernel and packages
    kernel_headers: bool | None = None
    """Whether headers for the running kernel are installed."""
    installed_kernels: tuple[str, ...] | None = None
    dkms_installed: bool | None = None
    lockdown: str | None = None
    """`none`, `integrity` or `confidentiality`."""
    module_signatures_enforced: bool | None = None
    module_key: str | None = None
    """What the firmware knows of the key that signs modules compiled here: `none` (there is no such key yet),
    `unknown`, `waiting` (for somebody at the node's own console) or `enrolled`."""
    reboot_required: bool | None = None
    unattended_upgrades: bool | None = None
    broken_packages: tuple[str, ...] | None = None
    """Packages that dpkg left half-installed or half-configured."""

    # -- the system around Leeward
    services: frozenset[str] | None = None
    """All system services that have a process."""
    cgroup_unified: bool | None = None
    umask: int | None = None
    locale: str | None = None
    open_files_maximum: int | None = None
    """The most files that any one process may be allowed to open (fs.nr_open)."""
    journal_persistent: bool | None = None
    selinux: str | None = None
    """`disabled`, `permissive` or `enforcing`."""
    apparmor: bool | None = None
    other_engines: tuple[str, ...] | None = None
    """vLLM processes outside Leeward's unit."""

    # -- network and time
    interfaces: tuple[Interface, ...] | None = None
    nameservers: tuple[str, ...] | None = None
    hostname_resolves: bool | None = None
    """Whether /etc/hosts names this node, so that no name server need be asked."""
    management_networks: tuple[str, ...] = ()
    """From where the site's configuration lets SSH in; empty: from everywhere."""
    ssh_clients_outside: tuple[str, ...] | None = None
    """Addresses that are connected over SSH now and would not be let in again."""
    time_source: str | None = None
    """The service that disciplines the clock, or `none`."""
    time_zone: str | None = None

    # -- Leeward itself
    accounts: tuple[Account, ...] | None = None
    remains: tuple[str, ...] | None = None
    """Paths of an earlier installation that no current release accounts for."""
    current_slot: str | None = None
    trust_anchored: bool | None = None
    """Whether a publisher's root is trusted here."""

    def filesystem(self, path: str) -> Filesystem | None:
        """Return the observation for `path`, or `None` where it was not observed."""
        return next((f for f in self.filesystems if f.path == path), None)

    def mount(self, path: str) -> Mount | None:
        """Return the mount that holds `path`, or `None` where none was observed."""
        holding = [m for m in self.mounts if path == m.path or path.startswith(m.path.rstrip("/") + "/")]
        return max(holding, key=lambda mount: len(mount.path), default=None)

    def timing(self, path: str) -> DiskTiming | None:
        """Return what was measured for `path`, or `None`."""
        return next((t for t in self.disk_timings if t.path == path), None)


def redacted(facts: NodeFacts, *, key: bytes) -> NodeFacts:
    """Return the facts with pseudonyms for host name, serial numbers, UUIDs and addresses.

    A pseudonym is the start of an HMAC-SHA-256 under `key`: equal values stay equal under one key,
    and without the key nobody can try out which address or serial number stands behind it.
    """
    return replace(
        facts,
        hostname="node-" + _pseudonym(key, facts.hostname),
        default_routes=tuple(_without_addresses(key, route) for route in facts.default_routes),
        nameservers=None
        if facts.nameservers is None
        else tuple(_without_addresses(key, server) for server in facts.nameservers),
        management_networks=tuple(f"network-{_pseudonym(key, network)}" for network in facts.management_networks),
        ssh_clients_outside=None
        if facts.ssh_clients_outside is None
        else tuple(_without_addresses(key, client) for client in facts.ssh_clients_outside),
        gpus=tuple(
            replace(
                gpu,
                serial=None if gpu.serial is None else "serial-" + _pseudonym(key, gpu.serial),
                uuid="GPU-" + _pseudonym(key, gpu.uuid),
            )
            for gpu in facts.gpus
        ),
    )


def _pseudonym(key: bytes, value: str) -> str:
    return hmac.digest(key, value.encode(), hashlib.sha256).hex()[:12]


def _without_addresses(key: bytes, text: str) -> str:
    """Replace each word that is an address; what a check must know of it, its scope, stays in front."""
    return " ".join(_hidden(key, word) for word in text.split())


def _hidden(key: bytes, word: str) -> str:
    try:
        address = ipaddress.ip_address(word.partition("%")[0])
    except ValueError:
        return word
    return f"[{scope(str(address))} address {_pseudonym(key, word)}]"


def scope(address: str) -> str:
    """Return whether an address is `local` (private, link-local or loopback) or `public`; a redacted one keeps it.

    Anything else is `unknown`.
    """
    if address.startswith("["):
        return address[1:].partition(" ")[0]
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    return "public" if found.is_global else "local"
