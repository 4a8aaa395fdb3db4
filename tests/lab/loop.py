"""Loop devices, by which an image is a block device: binding them, and which of them are the lab's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab.process import run

_BLOCKS = Path("/sys/block")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopDevice:
    device: Path
    backing: Path


def devices_under(folder: Path) -> tuple[LoopDevice, ...]:
    """Every loop device whose image lies (or lay) under `folder`."""
    return tuple(held for held in all_devices() if held.backing.is_relative_to(folder))


def all_devices() -> tuple[LoopDevice, ...]:
    """Every loop device of this machine that is bound to an image."""
    found = []
    for entry in sorted(_BLOCKS.glob("loop*")):
        try:
            backing = (entry / "loop/backing_file").read_text().strip()
        except OSError:  # not bound, or no longer
            continue
        found.append(LoopDevice(device=Path("/dev") / entry.name, backing=Path(backing.removesuffix(" (deleted)"))))
    return tuple(found)


def bind(image: Path, *, read_only: bool) -> Path:
    """Bind an image to a free loop device and return the device."""
    mode = ["--read-only"] if read_only else []
    return Path(run(["losetup", "--find", "--show", *mode, image]).stdout.strip())


def release(device: Path) -> None:
    """Unbind now, or as soon as the last mount of the device ends."""
    run(["losetup", "--detach", device], check=False)
