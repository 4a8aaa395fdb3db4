"""The names that the lab gives to things outside its folder, so that it can find its own again.

Two labs at different folders never meet: a tag of the folder's path is in every name, and their
networks, though numbered alike, are in different namespaces.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabFailed

PREFIX = "lwd-"
NETWORK = "10.88.0"  # /24; exists only inside the lab's namespaces
CONTROLLER_ADDRESS = f"{NETWORK}.1"
MAX_NODES = 200
_FIRST_HOST = 10
_NODE_NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Every outside name of the lab at one folder."""

    root: Path

    @property
    def tag(self) -> str:
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:6]

    @property
    def prefix(self) -> str:
        return f"{PREFIX}{self.tag}-"

    @property
    def controller(self) -> str:
        """The controller's network namespace."""
        return f"{self.prefix}ctl"

    def node(self, name: str) -> str:
        """Name of a node's network namespace, of its control group and of its machine.

        Raises:
            LabFailed: `name` is no usable node name.
        """
        if not _NODE_NAME.fullmatch(name) or name == "ctl":
            raise LabFailed(
                detail=f"{name!r} is no node name: expected a letter, then up to 15 of a-z, 0-9 and '-', and not 'ctl'",
                remedy="Name the node like n1.",
            )
        return f"{self.prefix}{name}"


def address(index: int) -> str:
    """IPv4 address of the node with this index (from 1)."""
    return f"{NETWORK}.{_FIRST_HOST + index}"


def mac(index: int) -> str:
    """Ethernet address of the node with this index: locally administered, the one that QEMU's range has."""
    return f"52:54:00:88:00:{_FIRST_HOST + index:02x}"
