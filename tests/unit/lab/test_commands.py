"""The command lines that the lab runs, and what it reads from their answers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab import medium, process, vm
from tests.lab.container import nspawn_command
from tests.lab.errors import LabFailed
from tests.lab.image import PACKAGES, cache_key, mke2fs_command, mmdebstrap_command
from tests.lab.lab import Owner
from tests.lab.sources import Source
from tests.lab.ssh import Shell

SOURCE = Source(uri="http://mirror.example/debian", suite="bookworm", components=("main",))


def test_a_disk_is_made_anew_when_its_packages_or_size_change_and_not_otherwise() -> None:
    key = cache_key(packages=("a", "b"), disk_bytes=1)

    assert cache_key(packages=("b", "a"), disk_bytes=1) == key
    assert cache_key(packages=("a",), disk_bytes=1) != key
    assert cache_key(packages=("a", "b"), disk_bytes=2) != key


def test_the_base_is_made_from_the_given_source_alone() -> None:
    command = mmdebstrap_command(source=SOURCE, packages=PACKAGES, into=Path("/t"))

    assert command[-3:] == ["bookworm", "/t", "deb http://mirror.example/debian bookworm main"]
    assert not any("linux-image" in word for word in command)


def test_a_disk_sets_no_blocks_aside_so_that_full_means_full() -> None:
    command = mke2fs_command(folder=None, image=Path("/d.raw"), size_bytes=2**20, label="root")

    assert command[command.index("-m") + 1] == "0"
    assert command[-2:] == ["/d.raw", "1024k"]
    assert "-d" not in command


def test_a_container_gets_its_own_network_and_no_name_service() -> None:
    command = nspawn_command(root=Path("/r"), machine="lwd-x-n1", hostname="n1", namespace="lwd-x-n1")

    assert "--network-namespace-path=/run/netns/lwd-x-n1" in command
    assert "--resolv-conf=off" in command
    assert not any(word.startswith(("--bind", "--network-veth", "--port")) for word in command)


def test_ssh_uses_only_the_labs_key_and_the_pinned_host_key() -> None:
    shell = Shell(
        exec_prefix=("ip", "netns", "exec", "lwd-x-ctl"),
        address="10.88.0.11",
        key=Path("/k"),
        known_hosts=Path("/h"),
    )

    argv = shell.argv("true")

    assert argv[:5] == ["ip", "netns", "exec", "lwd-x-ctl", "ssh"]
    assert argv[-2:] == ["root@10.88.0.11", "true"]
    for option in ("StrictHostKeyChecking=yes", "UserKnownHostsFile=/h", "GlobalKnownHostsFile=/dev/null"):
        assert option in argv


def test_the_machine_has_one_card_that_is_on_the_labs_bridge() -> None:
    command = vm.qemu_command(
        disk=Path("/d"),
        boot=Path("/b"),
        console=Path("/c"),
        card="tap1",
        mac="52:54:00:88:00:0b",
        memory_mib=512,
        name="n",
    )

    assert [word for word in command if word.startswith(("tap,", "user", "bridge"))] == [
        "tap,id=net0,ifname=tap1,script=no,downscript=no"
    ]
    assert "-nodefaults" in command


@pytest.mark.parametrize(
    ("listing", "newest"),
    [
        ("/12/100644/0/0/vmlinuz-6.1.0-9-amd64/8/\n/13/100644/0/0/vmlinuz-6.1.0-50-amd64/8/\n", "6.1.0-50-amd64"),
        ("/12/100644/0/0/initrd.img-6.1.0-50-amd64/8/\n", None),
        ("", None),
    ],
)
def test_the_newest_kernel_of_a_disk_is_found_by_number(listing: str, newest: str | None) -> None:
    assert vm.newest_kernel(listing) == newest


def test_a_mediums_image_has_room_for_its_files_and_for_itself(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_bytes(b"x" * 3_000_000)
    (tmp_path / "link").symlink_to("/nowhere")

    size = medium.image_bytes(tmp_path)

    assert size > 3_000_000 + 256 * 2**20
    assert size % 2**20 == 0


@pytest.mark.parametrize(
    ("options", "read_only", "expected"),
    [("noexec,nosuid", True, "ro,noexec,nosuid"), ("", True, "ro"), ("nodev", False, "rw,nodev")],
)
def test_mount_options_say_first_whether_writing_is_allowed(options: str, read_only: bool, expected: str) -> None:  # noqa: FBT001  pytest passes parameters by name
    assert medium.mount_options(options, read_only=read_only) == expected


def test_a_file_system_counts_as_known_only_by_its_whole_name() -> None:
    listing = "nodev\ttmpfs\n\text4\n\tfuseblk\n"

    assert medium.kernel_mounts("ext4", listing=listing)
    assert not medium.kernel_mounts("ext", listing=listing)
    assert not medium.kernel_mounts("vfat", listing=listing)


def test_a_failed_command_is_shown_with_its_status_and_its_words() -> None:
    with pytest.raises(LabFailed, match=r"exited 3: no such thing") as failed:
        process.run(["sh", "-c", "echo no such thing >&2; exit 3"])

    assert "sweep" in failed.value.remedy


def test_a_command_that_does_not_end_is_ended() -> None:
    begun = time.monotonic()

    with pytest.raises(LabFailed, match="had not ended"):
        process.run(["sleep", "30"], timeout_s=0.1)

    assert time.monotonic() - begun < 10


def test_a_spawned_command_is_no_child_and_writes_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"

    process.spawn(["sh", "-c", "pwd; echo $PPID"], log=log, cwd=tmp_path)

    assert process.wait_until(lambda: log.read_text().count("\n") == 2, timeout_s=5)
    assert log.read_text().splitlines()[0] == str(tmp_path)


def test_a_reused_process_id_is_not_taken_for_the_owner() -> None:
    owner = Owner.this_process()

    assert owner.is_alive()
    assert not Owner(pid=owner.pid, started=owner.started + 1).is_alive()
    assert not Owner(pid=2**22 + 1, started=owner.started).is_alive()
