"""Memory: NUMA nodes, error correction, what is set aside, and swap.

Sources: Documentation/ABI/stable/sysfs-devices-node, Documentation/driver-api/edac.rst, proc(5).
"""

from __future__ import annotations

import re
from typing import Final

from appliance.adapters.host.tree import Tree
from appliance.domain.node import MemoryEcc, NumaNode

_NODES: Final = "sys/devices/system/node"
_EDAC: Final = "sys/devices/system/edac/mc"


def numa_nodes(tree: Tree) -> tuple[NumaNode, ...]:
    """Return the NUMA nodes."""
    names = [name for name in tree.names(_NODES) or () if re.fullmatch(r"node\d+", name)]
    return tuple(
        NumaNode(
            index=int(name[4:]),
            memory_bytes=_kibibytes(tree.text(f"{_NODES}/{name}/meminfo") or "", "MemTotal") or 0,
            cpus=_count(tree.word(f"{_NODES}/{name}/cpulist") or ""),
        )
        for name in sorted(names, key=lambda name: int(name[4:]))
    )


def memory_ecc(tree: Tree) -> MemoryEcc | None:
    """Return what EDAC says; `None` where no memory controller has a driver."""
    controllers = [name for name in tree.names(_EDAC) or () if re.fullmatch(r"mc\d+", name)]
    if not controllers:
        return None
    return MemoryEcc(
        controllers=len(controllers),
        corrected=sum(tree.number(f"{_EDAC}/{name}/ce_count") or 0 for name in controllers),
        uncorrected=sum(tree.number(f"{_EDAC}/{name}/ue_count") or 0 for name in controllers),
    )


def huge_pages_bytes(meminfo: str) -> int | None:
    """Return the memory that huge pages of every size hold; older kernels tell the default size only."""
    return _kibibytes(meminfo, "Hugetlb")


def swap_bytes(meminfo: str) -> int | None:
    """Return the size of all swap."""
    return _kibibytes(meminfo, "SwapTotal")


def _kibibytes(text: str, name: str) -> int | None:
    found = re.search(rf"\b{name}:\s+(\d+) kB", text)
    return int(found.group(1)) * 1024 if found else None


def _count(ranges: str) -> int:
    """Count the processors of a list such as `0-3,8`."""
    count = 0
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count
