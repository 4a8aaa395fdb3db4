"""Disks, buses, packages and surroundings, from a tree that looks like a node's."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from appliance.adapters.host import DiskTimer, memory, network, pci, storage, surroundings
from appliance.adapters.host.identity import redaction_key
from appliance.adapters.host.packages import packages
from appliance.adapters.host.tree import Tree

KERNEL = "6.1.0-41-amd64"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def write(tree: Tree, path: str, content: str | bytes) -> None:
    place = tree.path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)


def configuration(capability: int, control: int) -> bytes:
    """A PCI configuration space whose second extended capability is the one given."""
    space = bytearray(4096)
    struct.pack_into("<I", space, 0x100, 0x0001 | 1 << 16 | 0x140 << 20)
    struct.pack_into("<IHH", space, 0x140, capability | 1 << 16, 0, control)
    return bytes(space)


def test_the_longest_mount_that_the_first_process_sees_holds_a_path(tree: Tree) -> None:
    write(
        tree,
        "proc/1/mountinfo",
        "21 1 259:2 / / rw,relatime - ext4 /dev/a rw,errors=remount-ro\n"
        "22 21 259:5 / /var/lib/leeward rw - xfs /dev/b rw\n"
        "23 22 259:5 / /var/lib/leeward ro,nodev - xfs /dev/b ro\n"
        "24 21 0:9 / /mnt/a\\040stick rw - vfat /dev/c rw\n"
        "broken line\n",
    )

    found = {mount.path: mount for mount in storage.mounts(tree, ("/opt", "/var/lib/leeward/store", "/mnt/a stick"))}

    assert set(found) == {"/", "/var/lib/leeward", "/mnt/a stick"}
    assert found["/var/lib/leeward"].options == {"ro", "nodev"}
    assert found["/"].options == {"rw", "relatime"}
    assert found["/mnt/a stick"].kind == "vfat"


def test_disks_have_a_size_and_loops_are_none(tree: Tree) -> None:
    for name, sectors in (("nvme0n1", 2000), ("loop0", 4000), ("sdb", 0)):
        write(tree, f"sys/block/{name}/size", f"{sectors}\n")
    write(tree, "sys/block/nvme0n1/queue/rotational", "0\n")

    (disk,) = storage.disks(tree)

    assert (disk.name, disk.size_bytes, disk.rotational, disk.removable) == ("nvme0n1", 1_024_000, False, False)


def test_switches_access_control_and_iommu_are_read_from_the_bus(tree: Tree) -> None:
    devices = {
        "0000:18:00.0": ("0x10de", "0x030200"),
        "0000:05:00.0": ("0x10de", "0x068000"),
        "0000:15:01.0": ("0x1000", "0x060400"),
        "0000:16:01.0": ("0x1000", "0x060400"),
    }
    for name, (vendor, kind) in devices.items():
        write(tree, f"{pci.DEVICES}/{name}/vendor", vendor)
        write(tree, f"{pci.DEVICES}/{name}/class", kind)
    write(tree, f"{pci.DEVICES}/0000:15:01.0/config", configuration(0x000D, 0b0001_1101))
    write(tree, f"{pci.DEVICES}/0000:16:01.0/config", configuration(0x000D, 0b0000_0001))
    write(tree, f"{pci.DEVICES}/0000:18:00.0/iommu_group/type", "DMA-FQ\n")

    bus = pci.bus(tree)

    assert (bus.gpus, bus.nvswitches, bus.gpu_iommu) == (1, 1, {"translated"})
    assert bus.acs_redirecting == ("0000:15:01.0",)


def test_bridges_that_show_only_their_first_bytes_leave_access_control_unknown(tree: Tree) -> None:
    write(tree, f"{pci.DEVICES}/0000:15:01.0/class", "0x060400")
    write(tree, f"{pci.DEVICES}/0000:15:01.0/config", bytes(64))

    assert pci.bus(tree).acs_redirecting is None
    assert pci.bus(Tree(tree.path("nowhere"))).acs_redirecting is None


def test_a_list_of_capabilities_in_a_circle_ends() -> None:
    space = bytearray(4096)
    struct.pack_into("<I", space, 0x100, 0x0001 | 0x100 << 20)

    assert pci.acs_control(bytes(space)) == 0


def test_half_installed_packages_and_the_fabric_manager_are_found_in_dpkg(tree: Tree) -> None:
    write(
        tree,
        "var/lib/dpkg/status",
        "Package: good\nStatus: install ok installed\nVersion: 1\n\n"
        "Package: cut\nStatus: install ok half-configured\nVersion: 1\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: nvidia-fabricmanager-580\nStatus: install ok installed\nVersion: 580.95.05-1\n\n"
        "Package: unattended-upgrades\nStatus: install ok installed\nVersion: 2\n",
    )
    write(tree, "etc/apt/apt.conf.d/20auto", 'APT::Periodic::Unattended-Upgrade "1";\n')
    write(tree, f"lib/modules/{KERNEL}/build/Makefile", "")
    write(tree, "boot/vmlinuz-6.1.0-41-amd64", "")
    write(tree, "boot/vmlinuz.old", "")

    seen = packages(tree, KERNEL)

    assert seen.broken == ("cut",)
    assert seen.fabric_manager_version == "580.95.05"
    assert seen.unattended_upgrades is True
    assert (seen.kernel_headers, seen.installed_kernels, seen.reboot_required) == (True, (KERNEL,), False)

    write(tree, "etc/apt/apt.conf.d/99site", 'APT::Periodic::Unattended-Upgrade "0";\n')
    assert packages(tree, KERNEL).unattended_upgrades is False


def test_without_dpkg_what_only_it_knows_is_unknown(tree: Tree) -> None:
    seen = packages(tree, KERNEL)

    assert (seen.broken, seen.unattended_upgrades, seen.reboot_required) == (None, None, None)


def test_memory_errors_and_uneven_nodes_are_counted(tree: Tree) -> None:
    for name, uncorrected in (("mc0", 0), ("mc1", 2)):
        write(tree, f"sys/devices/system/edac/mc/{name}/ce_count", "5\n")
        write(tree, f"sys/devices/system/edac/mc/{name}/ue_count", f"{uncorrected}\n")
    write(tree, "sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       1000 kB\n")
    write(tree, "sys/devices/system/node/node0/cpulist", "0-3,8\n")

    ecc = memory.memory_ecc(tree)

    assert ecc is not None
    assert (ecc.controllers, ecc.corrected, ecc.uncorrected) == (2, 10, 2)
    assert [(node.memory_bytes, node.cpus) for node in memory.numa_nodes(tree)] == [(1_024_000, 5)]
    assert memory.memory_ecc(Tree(tree.path("nowhere"))) is None


def test_accounts_that_share_a_number_with_ours_are_told(tree: Tree) -> None:
    write(
        tree,
        "etc/passwd",
        "root:x:0:0::/root:/bin/bash\nleeward-gateway:x:991:991::/:/usr/sbin/nologin\nold:x:991:5::/:/bin/sh\n",
    )

    assert [(a.name, a.uid, a.shell) for a in surroundings.accounts(tree) or ()] == [
        ("leeward-gateway", 991, "/usr/sbin/nologin"),
        ("old", 991, "/bin/sh"),
    ]


def test_an_engine_outside_our_unit_is_named_without_its_arguments(tree: Tree) -> None:
    for pid, group in (("41", "/user.slice"), ("42", "/system.slice/leeward-engine.service")):
        write(tree, f"proc/{pid}/cmdline", b"python3\0/opt/x/bin/vllm\0serve\0--api-key\0secret\0")
        write(tree, f"proc/{pid}/comm", "vllm\n")
        write(tree, f"proc/{pid}/cgroup", f"0::{group}\n")

    assert surroundings.other_engines(tree) == ("vllm (41)",)
    assert surroundings.gpu_users(tree, [41, 42]) == ("vllm (41)",)


def test_what_an_installation_left_is_told_only_where_no_slot_accounts_for_it(tree: Tree) -> None:
    write(tree, "var/lib/leeward/ledger/ledger.db", "")

    assert surroundings.remains(tree) == ("/var/lib/leeward/ledger/ledger.db",)

    tree.path("var/lib/leeward/slots/26.11.0-e1").mkdir(parents=True)
    assert surroundings.remains(tree) == ()


@pytest.mark.parametrize(
    ("configured", "folder", "expected"),
    [("", False, False), ("", True, True), ("Storage=persistent\n", False, True), ("Storage=volatile\n", True, False)],
)
def test_the_journal_is_kept_as_its_configuration_says(
    tree: Tree, configured: str, *, folder: bool, expected: bool
) -> None:
    write(tree, "etc/systemd/journald.conf", f"[Journal]\n#Storage=none\n{configured}")
    if folder:
        tree.path("var/log/journal").mkdir(parents=True)

    assert surroundings.journal_persistent(tree) is expected


def test_names_servers_links_and_zone_are_read(tree: Tree) -> None:
    write(tree, "etc/hosts", "127.0.0.1 localhost\n127.0.1.1 llm01.site llm01  # us\n")
    write(tree, "etc/resolv.conf", "# none\nsearch site\nnameserver 10.0.0.53\nnameserver 9.9.9.9\n")
    write(tree, "sys/class/net/eno1/mtu", "9000\n")
    write(tree, "sys/class/net/eno1/carrier", "1\n")
    write(tree, "sys/class/net/lo/mtu", "65536\n")
    tree.path("etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Paris")

    assert network.hostname_resolves(tree, "llm01")
    assert not network.hostname_resolves(tree, "us")
    assert network.nameservers(tree) == ("10.0.0.53", "9.9.9.9")
    assert [(i.name, i.up, i.mtu) for i in network.interfaces(tree) or ()] == [("eno1", True, 9000)]
    assert network.time_zone(tree) == "Europe/Paris"
    assert network.time_source(frozenset({"chrony.service"})) == "chrony"
    assert network.time_source(None) is None


def test_files_of_proc_sys_are_read_though_they_refuse_large_readings() -> None:
    assert (Tree(Path("/")).number("proc/sys/fs/nr_open") or 0) > 0


def test_a_disk_is_measured_and_nothing_is_left_behind(tmp_path: Path) -> None:
    timing = DiskTimer(root=tmp_path, limit_s=0.05).state("/")

    assert timing is not None
    assert timing.syncs > 0
    assert timing.sync_p99_s is not None
    assert timing.sync_p99_s > 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_not_measured_and_not_made(tmp_path: Path) -> None:
    assert DiskTimer(root=tmp_path).state("/var/lib/leeward") is None
    assert DiskTimer(root=tmp_path).medium(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_medium_is_read_by_its_largest_file_and_never_through_a_link(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "a.p000").write_bytes(bytes(9 * 2**20))
    (blobs / "b.p000").symlink_to("/dev/zero")

    timing = DiskTimer(limit_s=0.05).medium(tmp_path)

    assert timing is not None
    assert (timing.read_bytes_per_s or 0) > 0
    assert timing.write_bytes_per_s is None


def test_the_key_for_pseudonyms_is_the_machines_own_and_is_not_its_id(tmp_path: Path) -> None:
    machine = tmp_path / "machine-id"
    machine.write_text("0123456789abcdef0123456789abcdef\n")

    key = redaction_key(machine)

    assert key is not None
    assert len(key) == 32
    assert b"0123456789abcdef" not in key
    assert redaction_key(tmp_path / "none") is None
