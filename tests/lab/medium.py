"""A medium that is carried to a node: a block image, attached from outside as a stick is, and pulled out.

A container cannot mount a loop device itself, so the mount is made from the machine inside the node's
mount namespace. Pulling stops the file system as it is at that instant; the same stick can be plugged
in again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.lab import ext4, loop
from tests.lab.errors import LabFailed
from tests.lab.image import mke2fs_command
from tests.lab.process import run
from tests.lab.requirements import install_tools

FileSystem = Literal["ext4", "vfat", "exfat"]
LABEL = "LEEWARD"
_FREE_BYTES = 256 * 2**20
_BYTES_PER_FILE = 16 * 1024  # ext4's default share of room per inode


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """One stick and where a node has it."""

    image: Path
    at: str
    filesystem: FileSystem
    read_only: bool
    device: Path | None = None  # the machine's loop device; None in a virtual machine

    def extract(self, into: Path) -> None:
        """Copy what the stick holds into a folder, without mounting it (ext4 only; detach it first)."""
        if self.filesystem != "ext4":
            raise LabFailed(detail=f"a {self.filesystem} image cannot be read here", remedy="Use an ext4 medium.")
        into.mkdir(parents=True, exist_ok=True)
        run(["debugfs", "-R", f"rdump / {into}", self.image])


def image_bytes(folder: Path) -> int:
    """How large an image of the folder is made: its files, room for ext4 itself, and 256 MiB free."""
    sizes = [os.lstat(Path(at) / name).st_size for at, _, names in os.walk(folder) for name in names]
    total = sum(sizes) + sum(sizes) // 16 + len(sizes) * _BYTES_PER_FILE + _FREE_BYTES
    return -(-total // 2**20) * 2**20


def build(folder: Path, image: Path, *, filesystem: FileSystem) -> None:
    """Make an image that holds the folder's content.

    Raises:
        LabFailed: the folder is none, or the file system cannot be filled here.
    """
    if not folder.is_dir():
        raise LabFailed(detail=f"{folder} is no folder and no image", remedy="Name a folder or a block image.")
    image.unlink(missing_ok=True)
    size = image_bytes(folder)
    if filesystem == "ext4":
        run(mke2fs_command(folder=folder, image=image, size_bytes=size, label=LABEL))
    elif filesystem == "vfat":
        install_tools({"mkfs.vfat": "dosfstools", "mcopy": "mtools"})
        run(["truncate", f"--size={size}", image])
        run(["mkfs.vfat", "-F", "32", "-n", LABEL, image])
        content = sorted(folder.iterdir())
        if content:
            run(["mcopy", "-s", "-i", image, *content, "::"])
    else:
        raise LabFailed(
            detail=f"no tool fills a {filesystem} image without mounting it",
            remedy="Give attach_medium a ready image, and a node that is up in mode vm.",
        )


def mount_options(options: str, *, read_only: bool) -> str:
    """Options for mount(8)."""
    return ",".join(word for word in ("ro" if read_only else "rw", options) if word)


def kernel_mounts(filesystem: str, *, listing: str) -> bool:
    """Whether a kernel with this /proc/filesystems can mount the file system now."""
    return filesystem in {line.split()[-1] for line in listing.splitlines() if line.strip()}


def mount_into(leader: int, medium: Medium, *, options: str) -> Medium:
    """Mount the medium in the mount namespace of the container whose process 1 is `leader`.

    Raises:
        LabFailed: this machine's kernel does not know the file system, or the mount was refused.
    """
    if not kernel_mounts(medium.filesystem, listing=Path("/proc/filesystems").read_text()):
        raise LabFailed(
            detail=f"this machine's kernel mounts no {medium.filesystem}, and a container has no kernel of its own",
            remedy="Use an ext4 medium, or start the node with up(mode='vm').",
        )
    device = loop.bind(medium.image, read_only=medium.read_only)
    number = device.stat().st_rdev
    # The stick's device node is seen in the node, as it would be.
    script = 'test -b "$1" || mknod -m 0660 "$1" b "$2" "$3"; mkdir -p "$4" && mount -t "$5" -o "$6" "$1" "$4"'
    words = [str(device), str(os.major(number)), str(os.minor(number)), medium.at, medium.filesystem]
    words.append(mount_options(options, read_only=medium.read_only))
    try:
        _inside(leader, script, *words)
    finally:
        loop.release(device)  # the mount alone holds it from here on
    return Medium(
        image=medium.image, at=medium.at, filesystem=medium.filesystem, read_only=medium.read_only, device=device
    )


def pull_out(leader: int, medium: Medium) -> None:
    """Stop the file system under its mount, and take the stick's device node away."""
    ext4.stop(Path(f"/proc/{leader}/root{medium.at}"))
    _inside(leader, 'rm -f "$1"', str(medium.device))


def unmount_from(leader: int, medium: Medium) -> None:
    """End the mount, whatever uses it, and take the device node away."""
    _inside(leader, 'umount --lazy "$1" && rm -f "$2"', medium.at, str(medium.device))


def _inside(leader: int, script: str, *words: str) -> None:
    """Run a script in the container's mounts, with the container's /proc true for it."""
    spaces = [f"--mount=/proc/{leader}/ns/mnt", f"--pid=/proc/{leader}/ns/pid"]
    run(["nsenter", *spaces, "--", "sh", "-c", script, "sh", *words])
