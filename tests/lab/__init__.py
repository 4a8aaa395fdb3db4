"""The node lab: real Debian 12 nodes on one machine, with no way out of it.

A node is one disk image that starts as a container (`up()`, about a second, the machine's own kernel)
or as a virtual machine (`up(mode="vm")`, Debian's kernel, slow). Nodes and the controller live in
network namespaces that have no default route and no name service, so nothing in them can reach
another network. Everything the lab makes carries the prefix `lwd-` or lies under the lab's folder,
and nothing else is ever touched.

Only four NVIDIA GPUs are simulated, by `Lab.install_mock_nvml`; their serial numbers begin with `SIM`.

    with Lab() as lab:
        node = lab.create("n1")
        node.up()
        node.attach_medium(folder)
        node.ssh("ls /media/leeward")
"""

from __future__ import annotations

from tests.lab.errors import LabFailed, LabUnavailable
from tests.lab.lab import Lab
from tests.lab.medium import Medium
from tests.lab.node import Node

__all__ = ["Lab", "LabFailed", "LabUnavailable", "Medium", "Node"]
