"""Keeps one container node running, in a mount namespace of its own, until it powers off.

Started by `tests.lab.container` inside the node's control group. The disk is mounted here and not on
the machine, so that when this process tree dies, in whatever way, the kernel takes the mount and the
loop device with it. A reboot asked for inside the node starts the container again on the same disk.

Standard library only, and no import of the lab: it runs as a script.
"""

from __future__ import annotations

import os
import subprocess
import sys

REBOOT_STATUS = 133  # systemd-nspawn(1), "EXIT STATUS"


def main(disk: str, root: str, nspawn: list[str]) -> int:
    """Mount, boot, boot again after each reboot; returns the container's last exit status."""
    # Without noinit_itable the kernel would write all inode tables of a sparse disk in the background.
    subprocess.run(["mount", "-t", "ext4", "-o", "loop,noinit_itable", disk, root], check=True)
    # Some machines still have the old hierarchies here; systemd in the node needs the unified one alone.
    subprocess.run(["umount", "--recursive", "--lazy", "/sys/fs/cgroup"], check=False)
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], check=True)
    environment = os.environ | {
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",  # the node's own tmp.mount does it, noexec
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",  # /proc/sys/net, which is the node's own
    }
    while (status := subprocess.run(nspawn, check=False, env=environment).returncode) == REBOOT_STATUS:
        pass
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
