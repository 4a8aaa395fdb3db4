"""What the lab needs of the machine: asked first, and changed only to install missing tools."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.lab.cgroup import unified_root
from tests.lab.errors import LabUnavailable
from tests.lab.process import run


def require() -> None:
    """Look whether nodes can be made here; change nothing.

    Raises:
        LabUnavailable: says everything that is missing.
    """
    missing = missing_requirements(
        user_id=os.geteuid(),
        os_release=Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else "",
        kernel_has=frozenset(
            name
            for name, path in (
                ("network namespaces", "/proc/self/ns/net"),
                ("mount namespaces", "/proc/self/ns/mnt"),
                ("loop devices", "/dev/loop-control"),
            )
            if Path(path).exists()
        ),
        has_cgroup2=unified_root() is not None,
    )
    if missing:
        raise LabUnavailable(
            detail="; ".join(missing),
            remedy="Run the node tests as root on a Debian 12 machine, not inside an unprivileged container.",
        )


def missing_requirements(
    *, user_id: int, os_release: str, kernel_has: frozenset[str], has_cgroup2: bool
) -> tuple[str, ...]:
    """Everything that keeps this machine from holding nodes, in words."""
    release = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    system = (release.get("ID", "").strip('"'), release.get("VERSION_ID", "").strip('"'))
    missing = []
    if user_id != 0:
        missing.append(f"root is needed, this is user {user_id}")
    if system != ("debian", "12"):
        missing.append(f"Debian 12 is needed, this is {' '.join(system).strip() or 'unknown'}")
    missing += [
        f"the kernel has no {needed}"
        for needed in ("network namespaces", "mount namespaces", "loop devices")
        if needed not in kernel_has
    ]
    if not has_cgroup2:
        missing.append("no cgroup2 hierarchy is mounted")
    return tuple(missing)


def install_tools(tools: Mapping[str, str]) -> None:
    """Install the Debian packages (values) of those commands (keys) that are not there.

    Raises:
        LabFailed: apt-get failed.
    """
    packages = sorted({package for command, package in tools.items() if shutil.which(command, path=_PATH) is None})
    if not packages:
        return
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600"]
    run([*apt, "update"])
    run([*apt, "install", "-y", "--no-install-recommends", *packages])


_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
