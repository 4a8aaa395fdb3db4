"""One question to NVML whose answer may be missing.

A value that this GPU, driver or binding does not give is `None`; a GPU that is lost or must be reset
still raises, because then nothing more that it says can be trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml


def optional(call: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401  pynvml has no types
    """Return what the call gives, or `None`; raises NVMLError for a GPU that is lost or needs a reset."""
    try:
        return call(*arguments)
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired):
        raise
    except pynvml.NVMLError:
        return None


def number(call: str, *arguments: Any) -> int | None:  # noqa: ANN401  pynvml has no types
    """Return the number that NVML's function of that name gives, or `None`."""
    value = optional(getattr(pynvml, call), *arguments)
    return None if value is None else int(value)


def text(call: str, *arguments: Any) -> str | None:  # noqa: ANN401  pynvml has no types
    """Return the text that NVML's function of that name gives, or `None` where it is empty."""
    value = optional(getattr(pynvml, call), *arguments)
    if value is None:
        return None
    return (value.decode() if isinstance(value, bytes) else str(value)) or None
