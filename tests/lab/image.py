"""Makes the disk that every node starts from, once, and keeps it in a cache.

A disk is one ext4 file system without partitions (label `root`): the machine's kernel may know no
partition tables, and a container and a virtual machine can both start from it. It knows no mirror,
no key of any lab, and has no host keys: those are a node's own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.errors import LabFailed
from tests.lab.process import run
from tests.lab.requirements import install_tools
from tests.lab.sources import Source, installed_sources, point_release

SUITE = "bookworm"
DISK_BYTES = 20 * 2**30  # sparse: a fresh node takes about 0.4 GB of it, 0.9 GB with a kernel
FORMAT = 1  # raise when `_settle` changes, so that cached disks are made anew

PACKAGES = (
    "ca-certificates", "dbus", "iproute2", "iputils-ping", "kmod", "less", "netbase", "nftables", "openssh-server",
    "procps", "python3", "python3-apt", "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
KERNEL_PACKAGES = ("e2fsprogs", "initramfs-tools", "linux-image-amd64", "pciutils", "udev", "zstd")
TOOLS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "mke2fs": "e2fsprogs"}

_NOT_HERE = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "systemd-networkd-wait-online.service",
)  # fmt: skip

_TMP_MOUNT = """\
[Unit]
Description=Temporary files, where nothing can be executed, as hardened sites have it
DefaultDependencies=no
Conflicts=umount.target
Before=local-fs.target umount.target
After=swap.target
[Mount]
What=tmpfs
Where=/tmp
Type=tmpfs
Options=mode=1777,strictatime,nosuid,nodev,noexec
[Install]
WantedBy=local-fs.target
"""
_SSHD = "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\nPasswordAuthentication no\nAcceptEnv LANG\n"


def cache_key(*, packages: tuple[str, ...], disk_bytes: int) -> str:
    """A disk with this key is the same disk."""
    named = json.dumps([FORMAT, SUITE, sorted(packages), disk_bytes])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def mmdebstrap_command(*, source: Source, packages: tuple[str, ...], into: Path) -> list[str]:
    """Debian's smallest set plus `packages`, unpacked into a folder."""
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        f"--include={','.join(packages)}",
        source.suite,
        str(into),
        source.line(),
    ]


def mke2fs_command(*, folder: Path | None, image: Path, size_bytes: int, label: str) -> list[str]:
    """An ext4 image of `folder`, with no blocks set aside for root so that sizes mean what they say."""
    content = ["-d", str(folder)] if folder else []
    return [
        *("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", label, "-E", "root_owner=0:0"),
        *content,
        str(image),
        f"{size_bytes // 1024}k",
    ]


def base(cache: Path, *, with_kernel: bool = False, disk_bytes: int = DISK_BYTES) -> Path:
    """The base disk, made if the cache does not hold it (about a minute; needs the machine's mirror).

    Raises:
        LabUnavailable: the machine's apt names no mirror for the suite.
        LabFailed: a tool failed; the cache is as before.
    """
    packages = PACKAGES + (KERNEL_PACKAGES if with_kernel else ())
    disk = cache / f"{SUITE}-{cache_key(packages=packages, disk_bytes=disk_bytes)}.raw"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        if disk.exists():
            return disk
        source = point_release(installed_sources(), suite=SUITE)
        install_tools(TOOLS)
        for crashed in cache.glob("making-*"):
            shutil.rmtree(crashed)
        work = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        try:
            tree, image = work / "tree", work / "disk.raw"
            run(mmdebstrap_command(source=source, packages=packages, into=tree))
            _settle(tree)
            run(mke2fs_command(folder=tree, image=image, size_bytes=disk_bytes, label="root"))
            image.rename(disk)
        finally:
            shutil.rmtree(work)
    return disk


def _settle(tree: Path) -> None:
    """Turn a fresh Debian into the base of a disconnected node."""
    etc = tree / "etc"
    (etc / "apt/sources.list").write_text("")
    for listed in (*etc.glob("apt/sources.list.d/*"), *etc.glob("ssh/ssh_host_*"), etc / "resolv.conf"):
        listed.unlink(missing_ok=True)
    (etc / "fstab").write_text("")  # an entry for / would fail in a container
    (etc / "ssh/sshd_config.d/lab.conf").write_text(_SSHD)
    (etc / "systemd/system/tmp.mount").write_text(_TMP_MOUNT)
    root_ssh = tree / "root/.ssh"
    root_ssh.mkdir(mode=0o700, exist_ok=True)
    systemctl = ["systemctl", "--quiet", f"--root={tree}"]
    run([*systemctl, "enable", "systemd-networkd.service", "ssh.service", "tmp.mount", "serial-getty@ttyS0.service"])
    run([*systemctl, "mask", *_NOT_HERE])


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a disk without writing its holes."""
    run(["cp", "--sparse=always", "--reflink=auto", source, target])


def read_out(image: Path, *, inside: str, into: Path) -> None:
    """Copy one file out of an ext4 image that is not mounted.

    Raises:
        LabFailed: the image does not hold it.
    """
    run(["debugfs", "-R", f"dump {inside} {into}", image])
    if not into.exists() or into.stat().st_size == 0:
        raise LabFailed(
            detail=f"{image.name} holds no {inside}", remedy="Create the node with_kernel=True to start it as a vm."
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; another process waits for its turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
