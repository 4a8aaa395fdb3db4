"""A twin of NVML in place of the driver's library, for nodes without GPUs.

The twin carries the same SONAME, `libnvidia-ml.so.1`. Once it is loaded for the whole process, the
dynamic linker answers every later request for that name with it, so NVML's bindings and everything
above them run unchanged. What is read through it is marked as simulated by the probe returned here.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from appliance.adapters.nvml import NvmlProbe
from appliance.domain.errors import ConfigInvalid

_loaded: list[ctypes.CDLL] = []


def preload_mock_nvml(path: Path) -> NvmlProbe:
    """Load the twin at `path` and return a probe that says so.

    Call it before NVML is first used in this process. Raises ConfigInvalid where the library does
    not load, or where another library of that name was loaded first.
    """
    try:
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        by_name = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        raise ConfigInvalid(
            detail=f"the simulated GPU library {path} does not load: {error}",
            remedy="Build it with the SONAME libnvidia-ml.so.1, or remove the setting that asks for simulated GPUs.",
        ) from error
    if library._handle != by_name._handle:  # noqa: SLF001  ctypes has no public name for dlopen's handle
        raise ConfigInvalid(
            detail=f"{path} was loaded, but libnvidia-ml.so.1 still names another library",
            remedy="Build it with the SONAME libnvidia-ml.so.1 and load it before anything else uses NVML.",
        )
    _loaded.append(library)
    return NvmlProbe(simulated=True)
