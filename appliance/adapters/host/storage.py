"""Disks, mounts and file systems.

Sources: proc_pid_mountinfo(5), Documentation/ABI/stable/sysfs-block of Linux.
"""

from __future__ import annotations

import os
from typing import Final

from appliance.adapters.host.tree import Tree
from appliance.domain.node import BlockDevice, Filesystem, Mount

SECTOR_BYTES: Final = 512
"""The unit of /sys/block/*/size, whatever the disk's own sectors are."""
_NO_DISKS: Final = ("loop", "ram", "zram", "nbd", "fd", "sr")
_MOUNTINFO_FIELDS: Final = 6
_OCTAL: Final = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


def filesystem(tree: Tree, path: str) -> Filesystem:
    """Observe the file system that holds `path`, or that would hold it once it is made."""
    place = tree.path(path)
    while not place.exists():
        place = place.parent
    status = os.statvfs(place)
    device = place.stat().st_dev
    return Filesystem(
        path=path,
        total_bytes=status.f_blocks * status.f_frsize,
        free_bytes=status.f_bavail * status.f_frsize,
        noexec=bool(status.f_flag & os.ST_NOEXEC),
        device=f"{os.major(device)}:{os.minor(device)}",
        free_inodes=status.f_favail if status.f_files else None,
    )


def mounts(tree: Tree, paths: tuple[str, ...]) -> tuple[Mount, ...]:
    """Return the mounts that hold any of `paths`.

    The first process's view counts: the daemon's own unit may see parts of the node read-only.
    """
    table = tree.text("proc/1/mountinfo") or tree.text("proc/self/mountinfo") or ""
    last = {mount.path: mount for line in table.splitlines() if (mount := _mount(line))}  # a later one covers
    holding = {
        max((m for m in last if path == m or path.startswith(m.rstrip("/") + "/")), key=len, default=None)
        for path in paths
    }
    return tuple(last[path] for path in sorted(path for path in holding if path is not None))


def _mount(line: str) -> Mount | None:
    before, separator, after = line.partition(" - ")
    words, kind = before.split(), after.split()
    if not separator or len(words) < _MOUNTINFO_FIELDS or len(kind) < 3:  # noqa: PLR2004  type, source, options
        return None
    path = words[4]
    for code, character in _OCTAL.items():
        path = path.replace(code, character)
    options = frozenset((*words[5].split(","), *kind[2].split(",")))
    return Mount(path=path, kind=kind[0], options=frozenset(o for o in options if "=" not in o), device=words[2])


def disks(tree: Tree) -> tuple[BlockDevice, ...]:
    """Return the disks of /sys/block that have a size."""
    found = []
    for name in tree.names("sys/block") or ():
        sectors = tree.number(f"sys/block/{name}/size")
        if name.startswith(_NO_DISKS) or not sectors:
            continue
        rotational = tree.number(f"sys/block/{name}/queue/rotational")
        found.append(
            BlockDevice(
                name=name,
                size_bytes=sectors * SECTOR_BYTES,
                rotational=None if rotational is None else bool(rotational),
                read_only=tree.word(f"sys/block/{name}/ro") == "1",
                removable=tree.word(f"sys/block/{name}/removable") == "1",
                model=tree.word(f"sys/block/{name}/device/model") or None,
            )
        )
    return tuple(found)
