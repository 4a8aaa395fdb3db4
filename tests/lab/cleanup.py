"""Finds and removes what a crashed run left behind; only what bears this lab's names, ever.

What is stale is decided by a pure function from what was found. A node whose owner (the process that
made it) is alive, or that was made to be kept, is not stale, nor is the controller's namespace then.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import cgroup, loop, network
from tests.lab.loop import LoopDevice
from tests.lab.names import Names
from tests.lab.process import run

ROOTS = Path("/run/leeward-lab/roots")  # one file per lab of this machine, named by its tag, that holds its folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Everything that bears one lab's names."""

    namespaces: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    loops: tuple[LoopDevice, ...] = ()
    mounts: tuple[Path, ...] = ()  # mount points on the machine itself; only a crash of `mount` can leave one
    nodes: frozenset[str] = frozenset()  # names of node folders

    def is_empty(self) -> bool:
        return not (self.namespaces or self.groups or self.loops or self.mounts or self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was removed, by kind, for people to read."""

    removed: tuple[str, ...] = field(default=())


def stale(found: Found, *, names: Names, kept: Iterable[str]) -> Found:
    """The part of `found` that belongs to no kept node."""
    keep = frozenset(kept)
    outside = {names.node(name) for name in keep}
    folders = [names.root / "nodes" / name for name in keep]
    spared = outside | ({names.controller} if keep else set())
    return Found(
        namespaces=frozenset(name for name in found.namespaces if name not in spared),
        groups=found.groups - outside,
        loops=tuple(held for held in found.loops if not _under(held.backing, folders)),
        mounts=tuple(path for path in found.mounts if not _under(path, folders)),
        nodes=found.nodes - keep,
    )


def _under(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def mounts_under(root: Path, *, mountinfo: str) -> tuple[Path, ...]:
    """Mount points at or under `root`, the deepest first (proc_pid_mountinfo(5); octal escapes undone)."""
    points = [
        Path(line.split()[4].encode().decode("unicode_escape").encode("latin-1").decode())
        for line in mountinfo.splitlines()
        if line.strip()
    ]
    return tuple(sorted((p for p in points if p.is_relative_to(root)), key=lambda path: len(path.parts), reverse=True))


def look(names: Names) -> Found:
    """See what of the lab is there."""
    root = cgroup.unified_root()
    nodes = names.root / "nodes"
    return Found(
        namespaces=network.namespaces(names.prefix),
        groups=frozenset(path.name for path in root.glob(f"{names.prefix}*")) if root else frozenset(),
        loops=loop.devices_under(names.root),
        mounts=mounts_under(names.root, mountinfo=Path("/proc/self/mountinfo").read_text()),
        nodes=frozenset(path.name for path in nodes.iterdir()) if nodes.is_dir() else frozenset(),
    )


def remove(found: Found, *, names: Names) -> Swept:
    """Remove all of `found`: processes first, folders last. Idempotent."""
    removed = []
    for name in sorted(found.groups):
        group = cgroup.path_of(name)
        cgroup.kill(group)
        cgroup.remove(group)
        removed.append(f"control group {name}")
    for path in found.mounts:
        run(["umount", "--lazy", path], check=False)
        removed.append(f"mount {path}")
    for held in found.loops:
        loop.release(held.device)
        removed.append(f"loop device {held.device}")
    for name in sorted(found.namespaces):
        run(["ip", "netns", "delete", name], check=False)  # another lab may sweep the same orphan now
        removed.append(f"network namespace {name}")
    for name in sorted(found.nodes):
        shutil.rmtree(names.root / "nodes" / name)
        removed.append(f"node {name}")
    return Swept(removed=tuple(removed))


def remember(names: Names) -> None:
    """Note on this machine that a lab is at this folder, so that its leftovers are known even without it."""
    ROOTS.mkdir(parents=True, exist_ok=True)
    (ROOTS / names.tag).write_text(str(names.root))


def forget(names: Names) -> None:
    """The lab at this folder is gone."""
    (ROOTS / names.tag).unlink(missing_ok=True)


def orphans() -> tuple[Names, ...]:
    """Labs of this machine whose folder was deleted under them."""
    if not ROOTS.is_dir():
        return ()
    roots = (Path(entry.read_text()) for entry in sorted(ROOTS.iterdir()))
    return tuple(Names(root=root) for root in roots if not root.exists())
