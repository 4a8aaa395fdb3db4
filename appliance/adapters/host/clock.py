"""Whether the kernel believes its clock to be disciplined: adjtimex(2), read-only."""

from __future__ import annotations

import ctypes
import struct
from typing import Final

_TIMEX_BYTES: Final = 512
"""More than `struct timex` has on any Linux; the kernel writes its own size."""
_STATUS_OFFSET: Final = 40
"""Where `status` lies on 64-bit Linux: modes and padding, then offset, freq, maxerror, esterror."""
_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5


def clock_synchronized() -> bool | None:
    """Return whether a time source disciplines the clock; `None` where the kernel does not say."""
    if ctypes.sizeof(ctypes.c_long) != ctypes.sizeof(ctypes.c_int64):
        return None
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: read, change nothing
    try:
        state = int(ctypes.CDLL(None).adjtimex(buffer))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    (status,) = struct.unpack_from("=i", buffer.raw, _STATUS_OFFSET)
    return state != _TIME_ERROR and not status & _STA_UNSYNC
