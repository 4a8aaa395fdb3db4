"""One control group per node: how the lab knows that a node runs, and how its power is cut."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.lab.process import wait_until

_MOUNTS = Path("/proc/self/mountinfo")


def unified_root() -> Path | None:
    """Where this machine has its cgroup2 hierarchy (proc_pid_mountinfo(5)), or None."""
    for line in _MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def path_of(name: str) -> Path:
    """The folder of the control group with this name, whether it exists or not."""
    root = unified_root()
    assert root is not None, "require() was not asked"
    return root / name


def processes(group: Path) -> list[int]:
    """Ids of all processes in the group and below it."""
    found: list[int] = []
    for listing in (*group.glob("cgroup.procs"), *group.glob("**/cgroup.procs")):
        try:
            found += [int(word) for word in listing.read_text().split()]
        except OSError:  # the subgroup went away
            continue
    return sorted(set(found))


def populated(group: Path) -> bool:
    """Whether any process is alive in the group or below it."""
    try:
        return "populated 1" in (group / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def kill(group: Path) -> bool:
    """SIGKILL every process of the group at once; True when none is left within 10 s."""
    if populated(group):
        (group / "cgroup.kill").write_text("1")
    return wait_until(lambda: not populated(group), timeout_s=10)


def remove(group: Path) -> None:
    """Remove an empty group and the empty groups below it."""
    for folder in sorted(group.glob("**/"), key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(FileNotFoundError):  # systemd's last process took its own group away
            folder.rmdir()


def leader(group: Path) -> int | None:
    """The process of the group that is process 1 of the node, as this machine numbers it, or None."""
    for pid in processes(group):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        if len(ids) > 1 and ids[-1] == "1":
            return pid
    return None


def start_command(group: Path, argv: list[str]) -> list[str]:
    """Run `argv` inside the group: the process enters it first, then becomes the command."""
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *argv]
