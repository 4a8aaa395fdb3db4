"""How a GPU is joined to the others: PCIe, NVLink, peer access, and the fabric of an NVSwitch board.

Each function returns the fields of `Gpu` that it knows. Numbers: NVML API reference R580, nvml.h.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pynvml

from appliance.adapters.nvml.asking import number, optional

_P2P_READ: Final = 0
"""pynvml's own NVML_P2P_CAPS_INDEX_READ is a tuple by a stray comma."""
_FABRIC_STATES: Final = {
    pynvml.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED: "not-supported",
    pynvml.NVML_GPU_FABRIC_STATE_NOT_STARTED: "not-started",
    pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS: "in-progress",
    pynvml.NVML_GPU_FABRIC_STATE_COMPLETED: "completed",
}
_FABRIC_UNHEALTHY_SHIFTS: Final = (
    pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_DEGRADED_BW,
    pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_RECOVERY,
    pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_UNHEALTHY,
    pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ACCESS_TIMEOUT_RECOVERY,
)
_HEALTH_BITS: Final = 0x3
_HEALTH_TRUE: Final = 1
"""Each condition takes two bits of the mask: 0 not supported, 1 true, 2 false."""


def pcie(handle: Any) -> dict[str, Any]:  # noqa: ANN401  pynvml has no types
    """Read width and generation, now and at most."""
    return {
        "pcie_width": number("nvmlDeviceGetCurrPcieLinkWidth", handle),
        "pcie_width_maximum": number("nvmlDeviceGetMaxPcieLinkWidth", handle),
        "pcie_generation": number("nvmlDeviceGetCurrPcieLinkGeneration", handle),
        "pcie_generation_maximum": number("nvmlDeviceGetMaxPcieLinkGeneration", handle),
        "pcie_generation_gpu": number("nvmlDeviceGetGpuMaxPcieLinkGeneration", handle),
    }


def nvlink(handle: Any) -> dict[str, Any]:  # noqa: ANN401  pynvml has no types
    """Read the links; all is `None` where the GPU has none or does not tell."""
    states = {
        link: state
        for link in range(pynvml.NVML_NVLINK_MAX_LINKS)
        if (state := optional(pynvml.nvmlDeviceGetNvLinkState, handle, link)) is not None
    }
    if not states:
        return {"nvlinks_active": None, "nvlinks_total": None, "nvlink_peers": None}
    active = [link for link, state in states.items() if state]
    ends = {_end(handle, link) for link in active}
    return {
        "nvlinks_active": len(active),
        "nvlinks_total": len(states),
        "nvlink_peers": None if None in ends else tuple(sorted(str(end) for end in ends)),
    }


def _end(handle: Any, link: int) -> str | None:  # noqa: ANN401  pynvml has no types
    """Return what is at the other end of a link."""
    kind = number("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
    if kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
        return "switch"
    pci = optional(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)
    if pci is None:
        return None
    address = pci.busId
    return address.decode() if isinstance(address, bytes) else str(address)


def peers(index: int, handles: dict[int, Any]) -> dict[str, Any]:
    """Read which other GPUs' memory this one reaches, over NVLink and at all."""
    others = [other for other in handles if other != index]
    return {
        "p2p_nvlink": _reached(index, others, handles, pynvml.NVML_P2P_CAPS_INDEX_NVLINK),
        "p2p_pcie": _reached(index, others, handles, _P2P_READ),
    }


def _reached(index: int, others: list[int], handles: dict[int, Any], capability: int) -> frozenset[int] | None:
    states = {other: number("nvmlDeviceGetP2PStatus", handles[index], handles[other], capability) for other in others}
    if None in states.values():
        return None
    return frozenset(other for other, state in states.items() if state == pynvml.NVML_P2P_STATUS_OK)


def fabric(handle: Any) -> dict[str, Any]:  # noqa: ANN401  pynvml has no types
    """Read the fabric's state and health; a GPU without NVSwitch says that it has none."""
    answer = pynvml.c_nvmlGpuFabricInfo_v2_t()
    if optional(pynvml.nvmlDeviceGetGpuFabricInfoV, handle, ctypes.byref(answer)) is None:
        return {"fabric_state": None, "fabric_health": None}
    state = _FABRIC_STATES.get(int(answer.state))
    if state in {None, "not-supported"}:
        return {"fabric_state": state, "fabric_health": state}
    mask = int(answer.healthMask)
    wrong = any(mask >> shift & _HEALTH_BITS == _HEALTH_TRUE for shift in _FABRIC_UNHEALTHY_SHIFTS)
    return {"fabric_state": state, "fabric_health": "unhealthy" if wrong else "healthy"}
