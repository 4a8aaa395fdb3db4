"""Interfaces, names and time of the node.

Sources: Documentation/ABI/testing/sysfs-class-net of Linux, resolv.conf(5), hosts(5), localtime(5).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Final

from appliance.adapters.host.tree import Tree
from appliance.domain.node import Interface

_SOURCES: Final = {
    "chrony.service": "chrony",
    "chronyd.service": "chrony",
    "ntpsec.service": "ntpsec",
    "ntpd.service": "ntpd",
    "openntpd.service": "openntpd",
    "systemd-timesyncd.service": "systemd-timesyncd",
}


def interfaces(tree: Tree) -> tuple[Interface, ...] | None:
    """Return the interfaces but the loopback."""
    names = tree.names("sys/class/net")
    if names is None:
        return None
    found = []
    for name in names:
        mtu = tree.number(f"sys/class/net/{name}/mtu")
        if name == "lo" or mtu is None:
            continue
        speed = tree.number(
            f"sys/class/net/{name}/speed"
        )  # an interface without a carrier refuses, a virtual one says -1
        found.append(
            Interface(
                name=name,
                up=tree.word(f"sys/class/net/{name}/carrier") == "1",
                mtu=mtu,
                speed_mbps=speed if speed is not None and speed > 0 else None,
            )
        )
    return tuple(found)


def nameservers(tree: Tree) -> tuple[str, ...] | None:
    """Return the name servers that programs ask; a node without the file has none."""
    lines = (tree.text("etc/resolv.conf") or "").splitlines()
    return tuple(words[1] for line in lines if len(words := line.split()) > 1 and words[0] == "nameserver")


def hostname_resolves(tree: Tree, hostname: str) -> bool:
    """Return whether /etc/hosts names this node."""
    lines = (line.partition("#")[0].split() for line in (tree.text("etc/hosts") or "").splitlines())
    return any(hostname in words[1:] for words in lines)


def time_source(services: frozenset[str] | None) -> str | None:
    """Return the service that disciplines the clock; `none` where none of the known ones runs."""
    if services is None:
        return None
    return next((name for unit, name in _SOURCES.items() if unit in services), "none")


def time_zone(tree: Tree) -> str | None:
    """Return the zone's name; without a link the C library takes UTC."""
    link = tree.link("etc/localtime")
    if link is None:
        return None if tree.exists("etc/localtime") else "UTC"
    return link.partition("zoneinfo/")[2] or None


def outside(addresses: Iterable[str], networks: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses that are in none of the networks, in order; without networks there is no outside."""
    within = [ip_network(network) for network in networks]
    return tuple(
        sorted(each for each in addresses if within and not any(ip_address(each) in network for network in within))
    )
