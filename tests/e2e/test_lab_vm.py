"""The same disk under Debian's own kernel: what a container cannot show, once, because it is slow."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.lab import Lab, LabFailed, Node

pytestmark = [pytest.mark.node, pytest.mark.timeout(1500)]

STICK = "/media/leeward"


def boot_id(node: Node) -> str:
    return node.ssh("cat /proc/sys/kernel/random/boot_id").stdout


def test_a_node_without_a_kernel_says_so_and_starts_nothing(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.require()
        node = lab.create("n1")

        with pytest.raises(LabFailed, match="no kernel"):
            node.up(mode="vm")

        assert not node.is_up


def test_one_disk_serves_as_container_and_as_machine_and_survives_both(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "blob").write_bytes(b"x" * 1_000_000)
    with Lab(tmp_path / "lab") as lab:
        lab.require()
        node = lab.create("n1", with_kernel=True)
        node.up()
        node.ssh("echo kept > /root/from-the-container")
        with pytest.raises(LabFailed, match="up as container"):
            node.up(mode="vm")
        node.down()

        node.up(mode="vm")
        first = boot_id(node)
        assert node.system_state() == "running"
        assert node.ssh("uname --kernel-release").stdout.startswith("6.1.0-")
        assert node.ssh("cat /root/from-the-container").stdout == "kept\n"
        assert [route["dst"] for route in json.loads(node.ssh("ip --json route").stdout)] == ["10.88.0.0/24"]

        for filesystem in ("vfat", "ext4"):
            node.attach_medium(content, filesystem=filesystem)
            assert node.ssh(f"wc -c < {STICK}/blob").stdout == "1000000\n"
            assert "ro" in node.ssh(f"findmnt -no OPTIONS {STICK}").stdout.split(",")
            node.pull_medium()
            time.sleep(2)
            assert node.ssh(f"echo 3 > /proc/sys/vm/drop_caches; cat {STICK}/blob", check=False).returncode != 0
            node.detach_medium()

        node.ssh("echo kept > /root/synced; sync; echo lost > /root/unsynced")
        node.cut()
        node.up(mode="vm")
        assert boot_id(node) != first
        assert node.ssh("cat /root/synced").stdout == "kept\n"
        assert node.ssh("test -s /root/unsynced", check=False).returncode != 0

        node.down()
        node.up()
        assert node.ssh("cat /root/synced").stdout == "kept\n"
        assert node.system_state() == "running"
