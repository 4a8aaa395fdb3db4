"""Facts from a tree that looks like a node's /proc, /sys and /etc."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.adapters.host import HostProbe
from appliance.adapters.host.clock import clock_synchronized
from appliance.adapters.nvml import NvmlProbe
from appliance.domain.node import NodeFacts

SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


class TwinClock:
    def now(self) -> datetime:
        return NOW


class Tree:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    400 kB\n")
        self.write(
            "proc/cpuinfo",
            "processor\t: 0\nflags\t\t: fpu avx2 avx512f\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n",
        )
        self.write("etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')

    def write(self, path: str, content: str | bytes) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)

    def facts(self, *, management_networks: tuple[str, ...] = ()) -> NodeFacts:
        probe = HostProbe(
            gpus=NvmlProbe(),
            clock=TwinClock(),
            root=self.root,
            management_networks=management_networks,
            synchronized=lambda: None,
        )
        return probe.facts()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_system_memory_and_processors_are_read(tree: Tree) -> None:
    facts = tree.facts()

    assert (facts.os_id, facts.os_version) == ("debian", "12")
    assert facts.os_pretty_name == "Debian GNU/Linux 12 (bookworm)"
    assert (facts.memory_total_bytes, facts.memory_available_bytes) == (1_024_000, 409_600)
    assert facts.cpu_count == 2
    assert facts.cpu_flags == {"fpu", "avx2"}
    assert facts.observed_at == NOW
    assert facts.clock_synchronized is None


def test_a_bare_tree_has_unknown_or_empty_facts_and_no_error(tree: Tree) -> None:
    (tree.root / "etc/os-release").unlink()

    facts = tree.facts()

    assert facts.os_id == "unknown"
    assert facts.systemd_running is False
    assert facts.default_routes == ()
    assert facts.listening_tcp_ports == frozenset()
    assert facts.pci_gpu_count is None
    assert facts.running_units == frozenset()
    assert facts.stored_sha256 == frozenset()
    assert facts.simulated == ()


def test_default_routes_of_both_families_are_told_and_others_are_not(tree: Tree) -> None:
    tree.write(
        "proc/net/route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eno1\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eno2\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
        "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"
        "down\t00000000\t0100A8C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n",
    )
    zero = "0" * 32
    tree.write(
        "proc/net/ipv6_route",
        f"{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eno1\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
        f"fe80{'0' * 28} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eno1\n",
    )

    assert tree.facts().default_routes == (
        "0.0.0.0/0 via 192.168.0.1 dev eno1",
        "0.0.0.0/0 dev ppp0",
        "::/0 via fe80::1 dev eno1",
    )


def test_only_listening_ports_are_told_for_both_families(tree: Tree) -> None:
    head = "  sl  local_address rem_address   st\n"
    tree.write(
        "proc/net/tcp",
        head + "   0: 0100007F:1F90 00000000:0000 0A 0\n   1: 0100007F:0016 0200007F:C350 01 0\n",
    )
    tree.write("proc/net/tcp6", head + f"   0: {'0' * 32}:20FB {'0' * 32}:0000 0A 0\n")

    assert tree.facts().listening_tcp_ports == {8080, 8443}


def test_an_ssh_session_from_outside_the_management_networks_is_told_in_either_family(tree: Tree) -> None:
    head = "  sl  local_address rem_address   st\n"
    mapped, ipv6 = "0000000000000000FFFF0000", "B80D0120000000000000000001000000"
    tree.write(
        "proc/net/tcp",
        head
        + "   0: 0100000A:0016 0700090A:C350 01 0\n"  # 10.9.0.7, logged in
        + "   1: 0100000A:0016 0500010A:C351 01 0\n"  # 10.1.0.5, logged in from the network
        + "   2: 0100000A:0016 0800090A:C352 06 0\n"  # 10.9.0.8, gone
        + "   3: 0100000A:20FB 0900090A:C353 01 0\n"  # 10.9.0.9, at the gateway
        + "   4: 0100007F:0016 0100007F:C354 01 0\n",  # this machine
    )
    tree.write(
        "proc/net/tcp6",
        head
        + f"   0: {mapped}0100000A:0016 {mapped}0A00090A:C350 01 0\n"  # 10.9.0.10 in IPv6 dress
        + f"   1: {ipv6}:0016 {ipv6}:C351 01 0\n",
    )

    given = tree.facts(management_networks=("10.1.0.0/24",))

    assert given.ssh_clients_outside == ("10.9.0.10", "10.9.0.7", "2001:db8::1")
    assert given.management_networks == ("10.1.0.0/24",)
    assert tree.facts().ssh_clients_outside == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"\x06\0\0\0\x01", True), (b"\x06\0\0\0\0", False), (b"", None), (b"\x06\0\0\0\x01\x01", None)],
)
def test_secure_boot_is_the_fifth_byte_of_the_firmware_variable(
    tree: Tree, content: bytes, *, expected: bool | None
) -> None:
    tree.write(SECURE_BOOT, content)

    assert tree.facts().secure_boot is expected


def test_secure_boot_is_off_without_uefi_and_unknown_without_its_variable(tree: Tree) -> None:
    assert tree.facts().secure_boot is False

    (tree.root / "sys/firmware/efi").mkdir(parents=True)

    assert tree.facts().secure_boot is None


def test_fips_systemd_modules_units_and_store_are_seen(tree: Tree) -> None:
    digest = "ab" + "0" * 62
    tree.write("proc/sys/crypto/fips_enabled", "1\n")
    tree.write("proc/modules", "nouveau 16384 0 - Live 0x0\nnvme 1 2 - Live 0x0\n")
    tree.write("sys/fs/cgroup/system.slice/leeward-gateway.service/cgroup.procs", "12\n")
    tree.write("sys/fs/cgroup/system.slice/ssh.service/cgroup.procs", "13\n")
    tree.write(f"var/lib/leeward/store/sha256/ab/{digest}", "x")
    (tree.root / "run/systemd/system").mkdir(parents=True)

    facts = tree.facts()

    assert facts.fips_enabled is True
    assert facts.systemd_running is True
    assert facts.kernel_modules == {"nouveau", "nvme"}
    assert facts.running_units == {"leeward-gateway.service"}
    assert facts.stored_sha256 == {digest}


def test_nvidia_gpus_on_the_bus_are_counted_without_a_driver(tree: Tree) -> None:
    devices = {"0": ("0x10de", "0x030200"), "1": ("0x10de", "0x030000"), "2": ("0x10de", "0x068000")}
    devices["3"] = ("0x1a03", "0x030000")
    for name, (vendor, kind) in devices.items():
        tree.write(f"sys/bus/pci/devices/{name}/vendor", vendor + "\n")
        tree.write(f"sys/bus/pci/devices/{name}/class", kind + "\n")

    assert tree.facts().pci_gpu_count == 2


def test_a_path_that_is_not_there_yet_is_judged_by_the_file_system_that_would_hold_it(tree: Tree) -> None:
    facts = tree.facts()

    places = [facts.filesystem(path) for path in ("/", "/opt", "/var/lib/leeward")]
    assert len({place.device for place in places if place}) == 1
    assert all(place and place.total_bytes > 0 for place in places)


def test_this_machine_can_be_read() -> None:
    facts = HostProbe(gpus=NvmlProbe(), clock=TwinClock()).facts()

    assert facts.cpu_count >= 1
    assert facts.memory_total_bytes > 10**8
    assert facts.kernel


def test_the_kernel_is_asked_about_its_clock() -> None:
    assert clock_synchronized() in {True, False, None}
