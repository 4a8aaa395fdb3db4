"""Which node a playbook is for: Ansible's inventory, as a value.

Pure. The variables of the roles come from the release and the site's settings, in the step
`provision`; each carries the prefix of the role that reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

PLAYBOOK: Final = "site.yml"
UNINSTALL_PLAYBOOK: Final = "uninstall.yml"
GROUP: Final = "leeward_nodes"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""The node's own interpreter: only it has apt's bindings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAccess:
    """How another node is reached: name or address, account, and the files that SSH needs."""

    address: str
    user: str
    private_key: PurePosixPath
    known_hosts: PurePosixPath
    port: int = 22


def local_inventory(node_name: str) -> dict[str, object]:
    """Return the inventory of the node that the management daemon itself runs on."""
    return _inventory(node_name, {"ansible_connection": "local"})


def ssh_inventory(node_name: str, access: SshAccess) -> dict[str, object]:
    """Return the inventory of a node over SSH; its host key must be known already."""
    return _inventory(
        node_name,
        {
            "ansible_connection": "ssh",
            "ansible_host": access.address,
            "ansible_port": access.port,
            "ansible_user": access.user,
            "ansible_become": access.user != "root",
            "ansible_ssh_private_key_file": str(access.private_key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={access.known_hosts} -o StrictHostKeyChecking=yes",
        },
    )


def _inventory(node_name: str, connection: dict[str, object]) -> dict[str, object]:
    return {GROUP: {"hosts": {node_name: {"ansible_python_interpreter": SYSTEM_PYTHON, **connection}}}}
