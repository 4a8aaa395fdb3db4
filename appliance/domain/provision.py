"""What a release and the site's settings mean for the playbooks: an inventory and variables.

Pure. The variables carry the prefix of the role that reads them and stand in its
`meta/argument_specs.yml`. Everything else the roles know by themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from appliance.domain.engine import engine_variables
from appliance.domain.errors import Misfit
from bundles.release import Device, Release

PLAYBOOK: Final = "site.yml"
GROUP: Final = "leeward_nodes"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""The node's own interpreter: only it has apt's bindings."""

PACKAGES: Final = "os/debian-12"
_DRIVER_PACKAGE = re.compile(rf"{PACKAGES}/pool/nvidia-(?:[a-z0-9-]+-)?dkms_[^/]+\.deb")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAccess:
    """How another node is reached: name or address, account, and the files that SSH needs."""

    address: str
    user: str
    private_key: PurePosixPath
    known_hosts: PurePosixPath
    port: int = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteNetwork:
    """What the site decides about a node's network; empty tuples mean: no restriction, no server."""

    gateway_port: int = 8443
    gateway_sources: tuple[str, ...] = ()
    ssh_ports: tuple[int, ...] = (22,)
    ssh_sources: tuple[str, ...] = ()
    time_servers: tuple[str, ...] = ()


def local_inventory(node_name: str) -> dict[str, object]:
    """Return the inventory of the node that the management daemon itself runs on."""
    return _inventory(node_name, {"ansible_connection": "local"})


def ssh_inventory(node_name: str, access: SshAccess) -> dict[str, object]:
    """Return the inventory of a node over SSH; its host key must be known already."""
    options = f"-o UserKnownHostsFile={access.known_hosts} -o StrictHostKeyChecking=yes"
    return _inventory(
        node_name,
        {
            "ansible_connection": "ssh",
            "ansible_host": access.address,
            "ansible_port": access.port,
            "ansible_user": access.user,
            "ansible_become": access.user != "root",
            "ansible_ssh_private_key_file": str(access.private_key),
            "ansible_ssh_common_args": options,
        },
    )


def role_variables(release: Release, slot_path: PurePosixPath, network: SiteNetwork) -> dict[str, object]:
    """Return the variables of all roles for a release that lies at `slot_path` on the node.

    Raises Misfit where the release holds no engine or no packages.
    """
    if not any(entry.path.startswith(f"{PACKAGES}/dists/") for entry in release.files):
        raise Misfit(
            detail=f"release {release.name} {release.version} holds no packages under {PACKAGES}",
            remedy="Import a release that was built for Debian 12.",
        )
    repository = str(slot_path / PACKAGES)
    return {
        "base_repository": repository,
        "base_time_servers": list(network.time_servers),
        "nvidia_driver_enabled": brings_driver(release),
        "nvidia_driver_repository": repository,
        "engine_vllm_slot": release.slot,
        "engine_vllm_slot_path": str(slot_path),
        "engine_vllm_gpu": release.engine is not None and release.engine.device is Device.CUDA,
        "firewall_gateway_port": network.gateway_port,
        "firewall_gateway_sources": list(network.gateway_sources),
        "firewall_ssh_ports": list(network.ssh_ports),
        "firewall_ssh_sources": list(network.ssh_sources),
        "firewall_time_servers": list(network.time_servers),
        **engine_variables(release, slot_path),
    }


def brings_driver(release: Release) -> bool:
    """Whether the release holds a GPU driver to compile on the node."""
    return any(_DRIVER_PACKAGE.fullmatch(entry.path) for entry in release.files)


def _inventory(node_name: str, connection: dict[str, object]) -> dict[str, object]:
    variables = {"ansible_python_interpreter": SYSTEM_PYTHON, **connection}
    return {GROUP: {"hosts": {node_name: variables}}}
