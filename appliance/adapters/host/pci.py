"""GPUs, switches and bridges on the PCI bus, seen without a driver.

Sources: PCI Code and ID Assignment 1.11 (classes), PCI Express Base Specification 5.0 §7.7.8 (ACS),
Documentation/ABI/testing/sysfs-kernel-iommu_groups of Linux.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from appliance.adapters.host.tree import Tree

DEVICES: Final = "sys/bus/pci/devices"
NVIDIA: Final = "0x10de"
_DISPLAY: Final = ("0x0300", "0x0302")
"""VGA controller, 3D controller."""
_NVSWITCH: Final = "0x0680"
"""Bridge of another kind: what an NVSwitch calls itself."""
_PCI_BRIDGE: Final = "0x0604"
_EXTENDED_FROM: Final = 0x100
_EXTENDED_END: Final = 4096
_ACS: Final = 0x000D
_REDIRECTS: Final = 0b0010_1100
"""Request redirect, completion redirect, egress control: each sends peer traffic to the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """What stands on the bus; `None` where it cannot be read."""

    gpus: int | None
    nvswitches: int | None
    gpu_iommu: frozenset[str] | None
    acs_redirecting: tuple[str, ...] | None


def bus(tree: Tree) -> Bus:
    """Read the PCI bus."""
    names = tree.names(DEVICES)
    if names is None:
        return Bus(gpus=None, nvswitches=None, gpu_iommu=None, acs_redirecting=None)
    kinds = {name: tree.word(f"{DEVICES}/{name}/class") or "" for name in names}
    ours = {name for name in names if tree.word(f"{DEVICES}/{name}/vendor") == NVIDIA}
    gpus = sorted(name for name in ours if kinds[name].startswith(_DISPLAY))
    return Bus(
        gpus=len(gpus),
        nvswitches=sum(kinds[name].startswith(_NVSWITCH) for name in ours),
        gpu_iommu=frozenset(_iommu(tree, gpu) for gpu in gpus) if gpus else None,
        acs_redirecting=_redirecting(tree, [name for name in names if kinds[name].startswith(_PCI_BRIDGE)]),
    )


def _iommu(tree: Tree, device: str) -> str:
    """Return how the IOMMU treats a device: no group means that there is no IOMMU at work."""
    kind = tree.word(f"{DEVICES}/{device}/iommu_group/type")
    if kind is None:
        return "off"
    return "identity" if kind == "identity" else "translated"


def _redirecting(tree: Tree, bridges: list[str]) -> tuple[str, ...] | None:
    """Return the bridges with redirecting ACS; `None` where no bridge shows its extended configuration."""
    spaces = {bridge: tree.read(f"{DEVICES}/{bridge}/config") or b"" for bridge in bridges}
    whole = {bridge: space for bridge, space in spaces.items() if len(space) >= _EXTENDED_END}
    if bridges and not whole:
        return None
    return tuple(sorted(bridge for bridge, space in whole.items() if acs_control(space) & _REDIRECTS))


def acs_control(space: bytes) -> int:
    """Return the ACS control register of a 4 KiB configuration space; zero where the device has none."""
    place = _EXTENDED_FROM
    for _ in range((_EXTENDED_END - _EXTENDED_FROM) // 8):  # a broken list may run in a circle
        if place < _EXTENDED_FROM or place + 8 > len(space):
            return 0
        (header,) = struct.unpack_from("<I", space, place)
        if header & 0xFFFF == _ACS:
            return int(struct.unpack_from("<H", space, place + 6)[0])
        place = header >> 20
    return 0
