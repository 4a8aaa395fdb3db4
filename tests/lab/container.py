"""Starts a node as a systemd-nspawn container: systemd as process 1, the machine's kernel, native speed.

Not enforced on a machine with the old control group layout: MemoryMax= and IPAddressDeny=. Not
possible at all: modprobe, setting the clock, other sysctls than /proc/sys/net, loop mounts inside.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.lab import cgroup, ext4
from tests.lab.process import spawn, wait_until

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_POWER_OFF = signal.SIGRTMIN + 4  # systemd(1), "SIGNALS"


def nspawn_command(*, root: Path, machine: str, hostname: str, namespace: str) -> list[str]:
    """The container that boots what is mounted at `root`."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--keep-unit",
        "--register=no",
        f"--directory={root}",
        f"--machine={machine}",
        f"--hostname={hostname}",
        f"--network-namespace-path=/run/netns/{namespace}",
        "--capability=CAP_NET_ADMIN",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
    ]


def start(*, group: Path, disk: Path, root: Path, console: Path, nspawn: list[str]) -> None:
    """Start the container and return at once; it outlives this process."""
    root.mkdir(exist_ok=True)
    group.mkdir(exist_ok=True)
    supervisor = [sys.executable, "-I", str(_SUPERVISOR), str(disk), str(root), *nspawn]
    argv = cgroup.start_command(group, ["unshare", "--mount", "--propagation", "private", *supervisor])
    spawn(argv, log=console, cwd=root.parent)


def power_off(group: Path, *, timeout_s: float) -> bool:
    """Ask process 1 to shut down cleanly; False when it had not within the time."""
    leader = cgroup.leader(group)
    if leader is not None:
        os.kill(leader, _POWER_OFF)
    return wait_until(lambda: not cgroup.populated(group), timeout_s=timeout_s)


def stop_disk(group: Path) -> None:
    """Stop the node's file system dead; see `tests.lab.ext4`."""
    leader = cgroup.leader(group)
    if leader is not None:
        ext4.stop(Path(f"/proc/{leader}/root/"))
