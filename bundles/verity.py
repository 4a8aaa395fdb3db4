"""fs-verity: the kernel itself checks every block of a file that it reads, and lets nobody write to it.

Where file system and kernel have it (ext4 with the feature `verity`, btrfs, f2fs), files of the store get
it once they are verified, so that between check and use there is no writer at all, and a block that the
disk has changed gives an error instead of wrong bytes. Where they do not, nothing is lost but that: the
files are 0444 and root's, and the scrub reads them again. Linux's Documentation/filesystems/fsverity.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 4096
_ENABLE = 0x40806685
"""_IOW('f', 133, struct fsverity_enable_arg), of 128 bytes; include/uapi/linux/fsverity.h."""
_MEASURE = 0xC0046686
"""_IOWR('f', 134, struct fsverity_digest), of 4 bytes and room for the digest."""
_SHA256 = 1
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """How many of `files` files the kernel itself checks."""

    on: int
    files: int

    def __str__(self) -> str:
        if not self.on:
            return "fs-verity is off: the file system or the kernel does not offer it"
        return f"fs-verity is on for {self.on} of {self.files} files"


def protect(path: Path) -> bool:
    """Turn fs-verity on for a file that nobody has open for writing; gives whether it is on now.

    Never raises for what is only missing protection: no support, no room for the hash tree.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, _ENABLE, struct.pack("=IIIIQIIQ88x", 1, _SHA256, BLOCK_BYTES, 0, 0, 0, 0, 0))
    except OSError as error:
        return error.errno == errno.EEXIST  # it is on already
    else:
        return True
    finally:
        os.close(descriptor)


def is_protected(path: Path) -> bool:
    """Whether fs-verity is on for a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, _MEASURE, struct.pack("=HH32x", 0, _DIGEST_BYTES))
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def protection(paths: Iterable[Path]) -> Protection:
    """Look how many of these files have it."""
    found = [is_protected(path) for path in paths]
    return Protection(on=sum(found), files=len(found))
