"""What a piece of Python costs, told on standard output for who started the process.

It imports nothing of Leeward, so that another project's environment can run it too.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = b"measured "


@contextmanager
def measured() -> Iterator[None]:
    """Print wall and CPU seconds of the block, children included, and the most memory that the process had."""
    begun, before = time.perf_counter(), _cpu_s()
    yield
    told = {
        "wall_s": time.perf_counter() - begun,
        "cpu_s": _cpu_s() - before,
        "memory_bytes": _peak_bytes(),
    }
    sys.stdout.write(MARK.decode() + json.dumps(told))


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_bytes() -> int:
    """Return the high-water mark of resident memory; getrusage would give that of the parent before exec."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
