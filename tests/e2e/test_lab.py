"""The lab proves itself: what the other end-to-end tests take for granted about their nodes is so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from tests.lab import Lab, LabFailed, Node, cleanup
from tests.lab.cleanup import Found
from tests.lab.names import Names

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

STICK = "/media/leeward"
GPUS = """
import ctypes, json
ctypes.CDLL("/opt/leeward-lab/libnvidia-ml.so.1", mode=ctypes.RTLD_GLOBAL)
import pynvml
pynvml.nvmlInit()
gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
print(json.dumps([[pynvml.nvmlDeviceGetName(gpu), pynvml.nvmlDeviceGetTemperature(gpu, 0)] for gpu in gpus]))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.require()
    yield lab
    lab.destroy()


@pytest.fixture(scope="module")
def node(lab: Lab) -> Node:
    made = lab.create("n1")
    made.up()
    return made


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / "blob").write_bytes(bytes(range(256)) * 20_000)
    (folder / "run").write_text("#!/bin/sh\necho ran\n")
    (folder / "run").chmod(0o755)
    return folder


def leftovers(lab: Lab) -> Found:
    return cleanup.look(Names(root=lab.root))


def test_a_node_boots_to_a_running_system_within_ten_seconds(tmp_path: Path) -> None:
    with Lab(tmp_path / "quick") as quick:
        node = quick.create("n1")

        took_s = node.up()

        assert took_s < 10
        assert node.system_state() == "running"
        assert node.ssh("hostname").stdout == "n1\n"
    assert not node.is_up
    assert leftovers(quick).is_empty()
    assert not (cleanup.ROOTS / Names(root=quick.root).tag).exists()


def test_a_node_reaches_the_controller_and_no_other_network(node: Node) -> None:
    routes = json.loads(node.ssh("ip --json route").stdout)
    away = node.ssh("ping -c1 -W1 192.0.2.1", check=False)

    assert [route["dst"] for route in routes] == ["10.88.0.0/24"]
    assert "Network is unreachable" in away.stderr
    assert node.ssh("ping -c1 -W1 10.88.0.1").returncode == 0
    assert node.ssh("getent hosts example.org", check=False).returncode != 0
    assert node.ssh("cat /etc/apt/sources.list; ls /etc/apt/sources.list.d").stdout == ""


def test_the_controller_has_no_way_out_either(node: Node) -> None:
    routes = subprocess.run([*node.exec_prefix, "ip", "--json", "route"], check=True, capture_output=True)

    assert [route["dst"] for route in json.loads(routes.stdout)] == ["10.88.0.0/24"]


def test_units_can_be_confined_as_the_products_are(node: Node) -> None:
    confined = node.ssh(
        "systemd-run --quiet --wait --pipe -p DynamicUser=yes -p PrivateNetwork=yes -p ProtectSystem=strict "
        "-p PrivateDevices=yes -p NoNewPrivileges=yes -p SystemCallFilter=@system-service "
        "sh -c 'ip --brief address; id -u; touch /etc/x || echo refused'"
    ).stdout

    assert "eth0" not in confined
    assert "refused" in confined
    assert confined.split("\n")[-3] != "0"


def test_a_firewall_can_be_set(node: Node) -> None:
    node.ssh("nft add table inet probe")
    assert "inet probe" in node.ssh("nft list tables").stdout
    node.ssh("nft delete table inet probe")


def test_nothing_can_be_executed_in_the_folder_for_temporary_files(node: Node) -> None:
    refused = node.ssh("printf '#!/bin/sh\\n' > /tmp/x; chmod +x /tmp/x; /tmp/x", check=False)

    assert "Permission denied" in refused.stderr


def test_files_and_folders_go_over_and_come_back_unchanged(node: Node, content: Path, tmp_path: Path) -> None:
    node.copy_to(content, "/root/over")
    node.copy_to(content / "run", "/root/new folder/run")
    node.copy_from("/root/over", tmp_path / "back")
    node.copy_from("/root/over/blob", tmp_path / "blob")

    assert node.ssh("'/root/new folder/run'").stdout == "ran\n"
    assert (tmp_path / "back/blob").read_bytes() == (content / "blob").read_bytes()
    assert (tmp_path / "blob").read_bytes() == (content / "blob").read_bytes()
    with pytest.raises(LabFailed):
        node.copy_from("/root/missing", tmp_path / "missing")


def test_a_medium_is_read_only_and_cannot_be_executed_from(node: Node, content: Path) -> None:
    node.attach_medium(content)

    options = node.ssh(f"findmnt --noheadings --output OPTIONS {STICK}").stdout
    run = node.ssh(f"{STICK}/run", check=False)
    write = node.ssh(f"touch {STICK}/new", check=False)
    node.detach_medium()

    assert {"ro", "noexec", "nosuid", "nodev"} <= set(options.strip().split(","))
    assert "Permission denied" in run.stderr
    assert "Read-only file system" in write.stderr


def test_a_pulled_medium_gives_input_output_errors_until_it_is_plugged_in_again(node: Node, content: Path) -> None:
    stick = node.attach_medium(content).image
    node.ssh(f"cat {STICK}/blob > /dev/null")

    node.pull_medium()
    read = node.ssh(f"cat {STICK}/blob", check=False)
    node.detach_medium()
    gone = node.ssh(f"ls {STICK}").stdout
    node.attach_medium(stick)
    again = node.ssh(f"wc -c < {STICK}/blob").stdout
    node.detach_medium()

    assert read.returncode != 0
    assert "Input/output error" in read.stderr
    assert read.stdout == ""
    assert gone == ""
    assert int(again) == 256 * 20_000


def test_what_a_node_writes_to_a_medium_can_be_carried_away(node: Node, content: Path, tmp_path: Path) -> None:
    node.attach_medium(content, read_only=False)
    node.ssh(f"echo evidence > {STICK}/out")

    node.detach_medium().extract(tmp_path / "carried")

    assert (tmp_path / "carried/out").read_text() == "evidence\n"
    assert not (content / "out").exists()


def test_a_second_medium_and_an_unknown_file_system_are_refused(node: Node, content: Path) -> None:
    node.attach_medium(content)
    with pytest.raises(LabFailed, match="medium in already"):
        node.attach_medium(content)
    node.detach_medium()

    with pytest.raises(LabFailed, match="exfat"):
        node.attach_medium(content, filesystem="exfat")
    assert node.medium is None


def test_a_filled_disk_refuses_writes_until_it_is_freed(node: Node) -> None:
    node.fill_disk(5_000_000)
    full = node.ssh("head -c 20000000 /dev/zero > /root/big", check=False)
    left = node.free_bytes()
    node.ssh("rm /root/big")
    node.free_disk()

    assert "No space left on device" in full.stderr
    assert left < 5_000_000
    assert node.free_bytes() > 10 * 10**9


def test_a_power_cut_loses_what_was_not_synced_and_nothing_else(node: Node) -> None:
    node.ssh("echo kept > /root/synced; sync; echo lost > /root/unsynced")

    node.cut()
    assert not node.is_up
    node.up()

    assert node.ssh("cat /root/synced").stdout == "kept\n"
    assert node.ssh("test -e /root/unsynced", check=False).returncode != 0
    assert node.system_state() == "running"


def test_a_node_comes_back_from_a_reboot_and_from_a_shutdown(node: Node) -> None:
    first = node.ssh("cat /proc/1/stat").stdout.split()[21]
    node.ssh("systemctl reboot", check=False)
    time.sleep(1)
    node.wait_for_boot(timeout_s=60)
    second = node.ssh("cat /proc/1/stat").stdout.split()[21]

    node.ssh("echo kept > /root/unsynced-but-shut-down")
    node.down()
    assert not node.is_up
    node.up()

    assert first != second
    assert node.ssh("cat /root/unsynced-but-shut-down").stdout == "kept\n"


def test_several_nodes_reach_each_other_and_keep_their_own_disks(lab: Lab, node: Node) -> None:
    other = lab.create("n2")
    other.up()
    other.ssh("touch /root/mine")

    assert other.address != node.address
    assert node.ssh(f"ping -c1 -W1 {other.address}").returncode == 0
    assert node.ssh("test -e /root/mine", check=False).returncode != 0
    other.destroy()
    assert [left.name for left in lab.nodes()] == ["n1"]


def test_a_node_sees_four_simulated_gpus_and_their_faults(lab: Lab, node: Node) -> None:
    lab.install_mock_nvml(node)
    node.copy_to(Path(pynvml.__file__), "/root/pynvml.py")

    healthy = json.loads(node.ssh("cd /root && python3 -", input=GPUS).stdout)
    lab.set_gpu_faults(node, "2:hot")
    hot = json.loads(node.ssh("cd /root && python3 -", input=GPUS).stdout)
    lab.set_gpu_faults(node)
    cooled = json.loads(node.ssh("cd /root && python3 -", input=GPUS).stdout)

    assert [name for name, _ in healthy] == ["NVIDIA H200"] * 4
    assert [celsius for _, celsius in hot] == [38, 39, 92, 41]
    assert cooled == healthy


def test_another_process_of_the_lab_leaves_a_node_in_use_alone(lab: Lab, node: Node) -> None:
    swept = Lab(lab.root, keep=True).sweep()

    assert swept.removed == ()
    assert node.ssh("true").returncode == 0


def test_a_crashed_run_is_swept_away_before_the_next_and_leaves_nothing(tmp_path: Path, content: Path) -> None:
    root = tmp_path / "crashed"
    crash = (
        "import os, sys; from pathlib import Path; from tests.lab import Lab\n"
        "node = Lab(Path(sys.argv[1])).create('n1'); node.up(); node.attach_medium(Path(sys.argv[2])); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", crash, root, content], check=False, cwd=Path(__file__).parents[2])
    lab = Lab(root)
    before = leftovers(lab)

    first = lab.sweep()
    second = lab.sweep()

    assert {"n1"} == before.nodes
    assert before.groups
    assert before.loops
    assert len(before.namespaces) == 2
    assert first.removed
    assert second.removed == ()
    assert leftovers(lab).is_empty()


def test_a_lab_whose_folder_was_deleted_is_still_cleaned_up(tmp_path: Path) -> None:
    with Lab(tmp_path / "other") as other:
        gone = Lab(tmp_path / "gone", keep=True)
        gone.create("n1").up()
        subprocess.run(["rm", "-rf", gone.root], check=True)
        assert leftovers(gone).groups

        other.sweep()

        assert leftovers(gone).is_empty()


def test_a_destroyed_lab_leaves_no_namespace_mount_loop_device_or_file(tmp_path: Path, content: Path) -> None:
    with Lab(tmp_path / "short") as lab:
        lab.create("n1").up()
        lab.create("n2").up()
        lab.node("n1").attach_medium(content)
        lab.node("n2").attach_medium(content)
        lab.node("n2").pull_medium()

        lab.destroy()

        assert leftovers(lab).is_empty()
        assert not lab.root.exists()
        assert str(lab.root) not in Path("/proc/mounts").read_text()
