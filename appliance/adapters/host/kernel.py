"""Text of /proc into values. Pure: each function takes what a file says.

Sources: proc(5), and for the two route tables net/ipv4/fib_trie.c and net/ipv6/route.c of Linux.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_ROUTE_UP: Final = 0x0001
_ROUTE_REJECT: Final = 0x0200
_TCP_ESTABLISHED: Final = "01"
_TCP_LISTEN: Final = "0A"
_IPV4_COLUMNS: Final = 8
_IPV6_COLUMNS: Final = 10


def memory_bytes(meminfo: str) -> tuple[int, int]:
    """Return (MemTotal, MemAvailable) in bytes; raises ValueError where either is missing."""
    values = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    try:
        return (int(values["MemTotal"].split()[0]) * 1024, int(values["MemAvailable"].split()[0]) * 1024)
    except (KeyError, IndexError) as error:
        raise ValueError(f"/proc/meminfo has no {error}") from error


def cpus(cpuinfo: str) -> tuple[int, frozenset[str]]:
    """Return the number of processors and the flags that all of them have."""
    count = 0
    flags: frozenset[str] | None = None
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        name = name.strip()
        if name == "processor":
            count += 1
        elif name in {"flags", "Features"}:
            here = frozenset(value.split())
            flags = here if flags is None else flags & here
    return count, flags or frozenset()


def default_routes_ipv4(table: str) -> list[str]:
    """Return the usable default routes of /proc/net/route in words."""
    routes = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < _IPV4_COLUMNS:
            continue
        interface, destination, gateway, flags, mask = words[0], words[1], words[2], int(words[3], 16), words[7]
        if int(destination, 16) or int(mask, 16) or not flags & _ROUTE_UP or flags & _ROUTE_REJECT:
            continue
        address = ipaddress.IPv4Address(int.from_bytes(bytes.fromhex(gateway), "little"))
        routes.append(_route("0.0.0.0/0", str(address), is_direct=not int(address), interface=interface))
    return routes


def default_routes_ipv6(table: str) -> list[str]:
    """Return the usable default routes of /proc/net/ipv6_route in words."""
    routes = []
    for line in table.splitlines():
        words = line.split()
        if len(words) < _IPV6_COLUMNS:
            continue
        length, gateway, flags, interface = int(words[1], 16), words[4], int(words[8], 16), words[9]
        if length or int(words[0], 16) or not flags & _ROUTE_UP or flags & _ROUTE_REJECT or interface == "lo":
            continue
        address = ipaddress.IPv6Address(bytes.fromhex(gateway))
        routes.append(_route("::/0", str(address), is_direct=not int(address), interface=interface))
    return routes


def _route(network: str, gateway: str, *, is_direct: bool, interface: str) -> str:
    return f"{network} dev {interface}" if is_direct else f"{network} via {gateway} dev {interface}"


def listening_ports(table: str) -> set[int]:
    """Return the local ports in state LISTEN of /proc/net/tcp or /proc/net/tcp6."""
    ports = set()
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == _TCP_LISTEN:  # noqa: PLR2004  columns: number, local, remote, state
            ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


def connected_clients(table: str, ports: frozenset[int]) -> set[str]:
    """Return who is connected to one of our `ports`, of /proc/net/tcp or /proc/net/tcp6; this machine is no client."""
    found = set()
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == _TCP_ESTABLISHED and int(words[1].rpartition(":")[2], 16) in ports:  # noqa: PLR2004  columns as above
            address = _address(words[2].rpartition(":")[0])
            if not address.is_loopback:
                found.add(str(address))
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address that the kernel wrote as 32-bit words of the machine; an IPv4 one in IPv6 dress is IPv4."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    address = ipaddress.ip_address(words)
    return getattr(address, "ipv4_mapped", None) or address


def modules(table: str) -> frozenset[str]:
    """Return the names of the loaded kernel modules of /proc/modules."""
    return frozenset(line.split()[0] for line in table.splitlines() if line.strip())
