"""The lab's network: one bridge that all nodes and the controller share, and nothing beyond it.

The controller (pytest, ssh, Ansible, an API client) works from its own namespace as well, so it is
as disconnected as the nodes. No namespace has a default route.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab.names import CONTROLLER_ADDRESS, Names, address, mac
from tests.lab.process import run

NAMESPACES = Path("/run/netns")
_BRIDGE = "br0"


def namespaces(prefix: str) -> frozenset[str]:
    """Names of the network namespaces that begin with `prefix`."""
    if not NAMESPACES.is_dir():
        return frozenset()
    return frozenset(path.name for path in NAMESPACES.iterdir() if path.name.startswith(prefix))


def exec_prefix(names: Names) -> tuple[str, ...]:
    """What stands before a command that shall run in the controller's namespace."""
    return ("ip", "netns", "exec", names.controller)


def make_controller(names: Names) -> None:
    """Make the controller's namespace and its bridge; idempotent."""
    if names.controller in namespaces(names.prefix):
        return
    run(["ip", "netns", "add", names.controller])
    ip = ["ip", "-n", names.controller]
    run([*ip, "link", "set", "lo", "up"])
    run([*ip, "link", "add", _BRIDGE, "type", "bridge"])
    run([*ip, "address", "add", f"{CONTROLLER_ADDRESS}/24", "dev", _BRIDGE])
    run([*ip, "link", "set", _BRIDGE, "up"])


def plug_container(names: Names, *, node: str, index: int) -> None:
    """Join a container's namespace to the bridge; its card is called eth0, as in the virtual machine."""
    space, ip = names.node(node), ["ip", "-n", names.controller]
    unplug(names, node=node, index=index)
    run(["ip", "netns", "add", space])
    run(
        [
            *ip,
            "link",
            "add",
            f"ve{index}",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            mac(index),
            "netns",
            space,
        ]
    )
    for words in (
        ["link", "set", "lo", "up"],
        ["address", "add", f"{address(index)}/24", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
    ):
        run(["ip", "-n", space, *words])
    run([*ip, "link", "set", f"ve{index}", "master", _BRIDGE, "up"])


def plug_machine(names: Names, *, node: str, index: int) -> str:
    """Make the virtual machine's card on the bridge and return its name in the controller's namespace."""
    ip, tap = ["ip", "-n", names.controller], f"tap{index}"
    unplug(names, node=node, index=index)
    run([*ip, "tuntap", "add", "dev", tap, "mode", "tap"])
    run([*ip, "link", "set", tap, "master", _BRIDGE, "up"])
    return tap


def unplug(names: Names, *, node: str, index: int) -> None:
    """Take both kinds of card away: two owners of one address would cost minutes of timeouts."""
    for link in (f"ve{index}", f"tap{index}"):
        run(["ip", "-n", names.controller, "link", "delete", link], check=False)
    if names.node(node) in namespaces(names.prefix):
        run(["ip", "netns", "delete", names.node(node)])
