"""A node that restarts in the middle of an operation: by the operation itself, and by a power cut.

systemd, the boot's id, the journal on disk and the step `reboot` are the real ones; the play is
played (`tests.roles.reboot_daemon`). LEEWARD_TEST_NODE=vm runs the same in a virtual machine, whose
boot is a true one; a container has a boot id of its own and is started anew by systemd-nspawn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.lab import Lab, Node
from tests.lab.process import wait_until
from tests.roles.conftest import CHECKOUT

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

MODE = "vm" if os.environ.get("LEEWARD_TEST_NODE") == "vm" else "container"
STATE = "/var/lib/leeward/state"
UNIT = """\
[Service]
WorkingDirectory=/opt/test
ExecStart=/usr/bin/python3 -m tests.roles.reboot_daemon
Restart=always
RestartSec=1s
KillMode=mixed
[Install]
WantedBy=multi-user.target
"""
_PACKAGES_OF = """
import sys
import tests.roles.reboot_daemon
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
print("\\n".join(sorted({file.split("site-packages/")[1].split("/")[0] for file in files if "site-packages/" in file})))
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Lab(tmp_path / "lab") as lab:
        node = lab.create("reboot", with_kernel=MODE == "vm")
        node.up()
        _copy_daemon(node)
        if MODE == "vm":
            node.ssh("sync")
            node.down()
            node.up(mode="vm")
        yield node


def _copy_daemon(node: Node) -> None:
    """Put the daemon and the packages that it imports on the node, which has none of its own."""
    libraries = Path(structlog.__file__).parents[1]
    listed = subprocess.run(
        [sys.executable, "-c", _PACKAGES_OF], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    own = ["appliance", "bundles", "tests/__init__.py", "tests/roles/__init__.py", "tests/roles/reboot_daemon.py"]
    for folder, names in ((libraries, listed.stdout.split()), (CHECKOUT, own)):
        tar = ["tar", "-C", str(folder), "--exclude=__pycache__", "--owner=0", "--group=0", "-cf", "-", *names]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as sender:
            subprocess.run(
                node.shell.argv("mkdir -p /opt/test && tar -C /opt/test -xf -"), stdin=sender.stdout, check=True
            )
        assert sender.returncode == 0
    node.ssh("cat > /etc/systemd/system/leewardd.service && systemctl enable --quiet leewardd", input=UNIT)


def start(node: Node, *, wish: str) -> None:
    node.ssh(f"mkdir -p {STATE} && touch {STATE}/start && echo {wish} > /root/needs-restart && sync")
    node.ssh("systemctl start --no-block leewardd")


def operation(node: Node) -> dict[str, Any]:
    (view,) = node.ssh("cd /opt/test && python3 -m tests.roles.reboot_daemon --show").stdout.splitlines()
    shown: dict[str, Any] = json.loads(view)
    return shown


def boots_of_plays(node: Node) -> list[str]:
    return str(node.ssh(f"cat {STATE}/plays", check=False).stdout).split()


def boot_id(node: Node) -> str:
    return str(node.ssh("cat /proc/sys/kernel/random/boot_id", check=False).stdout).strip()


def wait_for_end(node: Node) -> dict[str, Any]:
    def ended() -> bool:
        shown = node.ssh("cd /opt/test && python3 -m tests.roles.reboot_daemon --show", check=False).stdout
        return '"state": "' in shown and '"state": "running"' not in shown

    assert wait_until(ended, timeout_s=300, every_s=2)
    return operation(node)


def wait_for_another_boot(node: Node, before: str) -> None:
    assert wait_until(lambda: boot_id(node) not in {"", before}, timeout_s=300, every_s=0.5)
    node.wait_for_boot(timeout_s=300)


def test_the_operation_restarts_the_node_once_and_goes_on_after_it(node: Node) -> None:
    before = boot_id(node)

    start(node, wish="once")
    wait_for_another_boot(node, before)
    view = wait_for_end(node)

    assert view["state"] == "succeeded"
    assert view["steps"]["reboot"] == "restarted; played"
    assert boots_of_plays(node) == [before, boot_id(node)]


def test_a_reason_that_a_restart_does_not_remove_costs_one_restart_and_no_second(node: Node) -> None:
    before = boot_id(node)

    start(node, wish="forever")
    wait_for_another_boot(node, before)
    view = wait_for_end(node)

    assert (view["state"], view["error"]) == ("failed", "restart-in-vain")
    assert boots_of_plays(node) == [before, boot_id(node)]


def test_a_power_cut_while_the_node_goes_down_counts_as_the_restart(node: Node) -> None:
    """A unit that takes its time to stop keeps the node on its way down until the power is gone."""
    before = boot_id(node)
    slow = "[Service]\nExecStart=/bin/sleep infinity\nExecStop=/bin/sleep 60\n"
    node.ssh("cat > /run/systemd/system/slow.service && systemctl start slow", input=slow)

    start(node, wish="once")
    assert wait_until(lambda: len(boots_of_plays(node)) == 1, timeout_s=120, every_s=0.2)
    assert wait_until(lambda: node.ssh("true", check=False).returncode != 0, timeout_s=120, every_s=0.2)
    assert node.is_up
    node.cut()
    node.up(mode=MODE)
    view = wait_for_end(node)

    assert view["state"] == "succeeded"
    assert boots_of_plays(node) == [before, boot_id(node)]
