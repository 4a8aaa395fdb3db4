"""A node that restarts in the middle of an operation: by the operation itself, and by a power cut.

systemd, the boot's id, the journal on disk and the step `reboot` are the real ones; the play is
played (`tests.roles.reboot_daemon`). LEEWARD_TEST_NODE=vm runs the same in a virtual machine, whose
boot is a true one; a container has a boot id of its own and is started anew by systemd-nspawn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, Node
from tests.lab.process import wait_until
from tests.roles.product import FOLDER, put_product

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

MODE = "vm" if os.environ.get("LEEWARD_TEST_NODE") == "vm" else "container"
STATE = "/var/lib/leeward/state"
UNIT = f"""\
[Service]
WorkingDirectory={FOLDER}
ExecStart=/usr/bin/python3 -m tests.roles.reboot_daemon
Restart=always
RestartSec=1s
KillMode=mixed
[Install]
WantedBy=multi-user.target
"""

GOING_DOWN = "the node goes down"
SLOW = f"""\
[Service]
ExecStart=/bin/sleep infinity
ExecStop=/bin/sh -c 'echo {GOING_DOWN} > /dev/console; sleep 290'
TimeoutStopSec=300
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Lab(tmp_path / "lab") as lab:
        node = lab.create("reboot", with_kernel=MODE == "vm")
        node.up()
        put_product(node, "tests.roles.reboot_daemon")
        node.ssh("cat > /etc/systemd/system/leewardd.service && systemctl enable --quiet leewardd", input=UNIT)
        if MODE == "vm":
            node.ssh("sync")
            node.down()
            node.up(mode="vm")
        yield node


def start(node: Node, *, wish: str) -> None:
    node.ssh(f"mkdir -p {STATE} && touch {STATE}/start && echo {wish} > /root/needs-restart && sync")
    node.ssh("systemctl start --no-block leewardd")


def operation(node: Node) -> dict[str, Any]:
    (view,) = node.ssh(f"cd {FOLDER} && python3 -m tests.roles.reboot_daemon --show").stdout.splitlines()
    shown: dict[str, Any] = json.loads(view)
    return shown


def boots_of_plays(node: Node) -> list[str]:
    return str(node.ssh(f"cat {STATE}/plays", check=False).stdout).split()


def boot_id(node: Node) -> str:
    return str(node.ssh("cat /proc/sys/kernel/random/boot_id", check=False).stdout).strip()


def wait_for_end(node: Node) -> dict[str, Any]:
    def ended() -> bool:
        shown = node.ssh(f"cd {FOLDER} && python3 -m tests.roles.reboot_daemon --show", check=False).stdout
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
    """A unit that takes its time to stop keeps the node on its way down until the power is gone.

    It says so on the console. That SSH does not answer would tell less: on a busy machine it may not
    answer for a while before the play has written down, for good, that it ran.
    """
    before = boot_id(node)
    node.ssh("cat > /run/systemd/system/slow.service && systemctl start slow", input=SLOW)

    start(node, wish="once")
    assert wait_until(lambda: GOING_DOWN in node.console(), timeout_s=240, every_s=0.2)
    assert node.is_up
    node.cut()
    node.up(mode=MODE)
    view = wait_for_end(node)

    assert view["state"] == "succeeded"
    assert boots_of_plays(node) == [before, boot_id(node)]
