"""Starts a node as a virtual machine: Debian's own kernel, sysctls, modules, reboot, USB sticks. Slow.

QEMU runs without KVM on purpose: on the machines this was made for, KVM accepts only guests with a
paravirtual kernel, and Debian's is none. The kernel and its initramfs are read from the node's own
disk and handed to QEMU, which stands in for the boot loader; or, with Secure Boot, to a real one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from tests.lab import cgroup, firmware, image
from tests.lab.errors import LabFailed
from tests.lab.medium import Medium, mount_options
from tests.lab.process import connected, run, spawn, wait_until
from tests.lab.requirements import install_tools
from tests.lab.ssh import Shell

_QMP = "qmp.sock"
_STICK = "stick"
_SERIAL = "LEEWARDLAB"
_KERNEL_LINE = "root=LABEL=root rw rootflags=noinit_itable console=ttyS0 net.ifnames=0 mitigations=off nokaslr"
_CPUS = 2


def newest_kernel(listing: str) -> str | None:
    """Version of the newest kernel in what `debugfs -R "ls -p /boot"` prints, or None."""
    versions = re.findall(r"/vmlinuz-([^/]+)/", listing)
    return max(versions, key=lambda v: [int(n) for n in re.findall(r"\d+", v)], default=None)


def qemu_command(
    *, disk: Path, boot: Path, console: Path, card: str, mac: str, memory_mib: int, name: str, secure_boot: bool = False
) -> list[str]:
    """The virtual machine; it must run in the controller's namespace, where its card is."""
    if secure_boot:
        begins = firmware.qemu_options(boot, console=console)
    else:
        kernel = ["-kernel", str(boot / "vmlinuz"), "-initrd", str(boot / "initrd"), "-append", _KERNEL_LINE]
        begins = [*kernel, "-serial", f"file:{console}"]
    return [
        *("qemu-system-x86_64", "-name", name, "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"),
        *("-m", str(memory_mib), "-smp", str(_CPUS), "-nodefaults", "-display", "none"),
        *("-qmp", f"unix:{_QMP},server=on,wait=off"),
        *begins,
        *(
            "-drive",
            f"file={disk},format=raw,if=none,cache=writeback,id=disk0",
            "-device",
            "virtio-blk-pci,drive=disk0",
        ),
        *("-netdev", f"tap,id=net0,ifname={card},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net0,mac={mac},romfile="),
        *("-device", "virtio-rng-pci", "-device", "qemu-xhci,id=usb"),
    ]


def start(
    *,
    group: Path,
    folder: Path,
    disk: Path,
    console: Path,
    exec_prefix: Sequence[str],
    card: str,
    mac: str,
    memory_mib: int,
    firmware_cache: Path | None = None,
) -> None:
    """Start the machine and return at once; it outlives this process.

    With `firmware_cache` it starts through UEFI firmware with Secure Boot on; what that needs is kept there.

    Raises:
        LabFailed: the disk holds no kernel.
    """
    install_tools({"qemu-system-x86_64": "qemu-system-x86"})
    version = newest_kernel(run(["debugfs", "-R", "ls -p /boot", disk]).stdout)
    if version is None:
        raise LabFailed(
            detail=f"the disk of {folder.name} holds no kernel", remedy="Create the node with_kernel=True for mode vm."
        )
    for inside, name in ((f"/boot/vmlinuz-{version}", "vmlinuz"), (f"/boot/initrd.img-{version}", "initrd")):
        image.read_out(disk, inside=inside, into=folder / name)
    if firmware_cache:
        firmware.prepare(folder, cache=firmware_cache, kernel_line=_KERNEL_LINE)
    (folder / _QMP).unlink(missing_ok=True)
    group.mkdir(exist_ok=True)
    qemu = qemu_command(
        disk=disk, boot=folder, console=console, card=card, mac=mac, memory_mib=memory_mib, name=folder.name,
        secure_boot=firmware_cache is not None,
    )  # fmt: skip
    argv = cgroup.start_command(group, [*exec_prefix, *qemu])
    spawn(argv, log=folder / "qemu.log", cwd=folder)
    if not wait_until((folder / _QMP).exists, timeout_s=20):
        raise LabFailed(detail=f"QEMU did not start: {(folder / 'qemu.log').read_text()}", remedy="Read qemu.log.")


def tell(folder: Path, *commands: tuple[str, dict[str, object]]) -> None:
    """Give QEMU commands over its QMP socket, one after the other.

    Raises:
        LabFailed: QEMU refused one.
    """
    with connected(folder, _QMP) as connection, connection.makefile("rw", encoding="utf-8") as stream:
        stream.readline()  # QEMU's greeting
        for execute, arguments in (("qmp_capabilities", {}), *commands):
            stream.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
            stream.flush()
            answer = json.loads(stream.readline())
            while "event" in answer:
                answer = json.loads(stream.readline())
            if "error" in answer:
                raise LabFailed(detail=f"QEMU refused {execute}: {answer['error']['desc']}", remedy="Read qemu.log.")


def plug_stick(folder: Path, shell: Shell, medium: Medium, *, options: str) -> None:
    """Plug a USB stick in and mount it.

    Raises:
        LabFailed: QEMU refused it, or the node did not see or mount it.
    """
    file = {"driver": "file", "filename": str(medium.image), "locking": "off"}
    drive: dict[str, object] = {
        "driver": "raw", "node-name": _STICK, "read-only": medium.read_only, "file": file,
    }  # fmt: skip
    stick: dict[str, object] = {"driver": "usb-storage", "id": _STICK, "drive": _STICK, "serial": _SERIAL}
    tell(folder, ("blockdev-add", drive), ("device_add", stick | {"bus": "usb.0", "removable": True}))
    shell.run(
        f"for try in $(seq 300); do set -- /dev/disk/by-id/usb-*{_SERIAL}*; [ -b $1 ] && break; sleep 0.1; done; "
        f"mkdir -p {medium.at} && mount -t {medium.filesystem} "
        f"-o {mount_options(options, read_only=medium.read_only)} $1 {medium.at}"
    )


def pull_stick(folder: Path) -> None:
    """Pull the stick out while it is mounted."""
    tell(folder, ("device_del", {"id": _STICK}))


def unplug_stick(folder: Path, shell: Shell, medium: Medium) -> None:
    """Unmount the stick, then take it out; one that was pulled already is only unmounted."""
    shell.run(f"umount {medium.at} || umount --lazy {medium.at}", check=False)
    with contextlib.suppress(LabFailed):  # it was pulled before
        tell(folder, ("device_del", {"id": _STICK}))

    def gone() -> bool:
        try:
            tell(folder, ("blockdev-del", {"node-name": _STICK}))
        except LabFailed:  # still in use by the device that is going away
            return False
        return True

    if not wait_until(gone, timeout_s=30, every_s=0.3):
        raise LabFailed(detail="QEMU does not let go of the stick", remedy="Cut the node's power.")
