"""UEFI firmware with Secure Boot on for a virtual machine, and the boot loader that it lets start.

Microsoft's keys are in the firmware, as in a server that is delivered: Microsoft has signed Debian's
shim, and Debian its GRUB, MokManager and kernel. Nothing else starts. What is enrolled later, at the
machine's own console, is kept in the variables beside the node's disk, as firmware keeps it.
"""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.errors import LabFailed
from tests.lab.image import locked
from tests.lab.process import connected, run
from tests.lab.requirements import install_tools

_OVMF = Path("/usr/share/OVMF")
_CODE = "OVMF_CODE_4M.secboot.fd"
_VARIABLES = "OVMF_VARS_4M.ms.fd"
_PACKAGES = ("shim-signed", "shim-helpers-amd64-signed", "grub-efi-amd64-signed")
_SIGNED = {
    "usr/lib/shim/shimx64.efi.signed": "BOOTX64.EFI",
    "usr/lib/shim/mmx64.efi.signed": "mmx64.efi",
    "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "grubx64.efi",
}
_PARTITION = "esp.raw"
_KEPT = "firmware.fd"
_CONSOLE = "console.sock"
_GRUB = """\
serial --unit=0
terminal_input serial
terminal_output serial
set timeout=0
menuentry debian {{
  linux ($root)/vmlinuz {line}
  initrd ($root)/initrd
}}
"""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
DOWN, ENTER = "\x1b[B", "\r"


def prepare(folder: Path, *, cache: Path, kernel_line: str) -> None:
    """Make the boot partition of the node at `folder`, whose kernel and initrd are there already.

    Raises:
        LabFailed: a tool failed, or the machine's mirror cannot be reached.
    """
    install_tools({"mformat": "mtools"} if _OVMF.joinpath(_CODE).exists() else {"mformat": "mtools", "ovmf": "ovmf"})
    if not (folder / _KEPT).exists():
        shutil.copy(_OVMF / _VARIABLES, folder / _KEPT)
    tree = folder / "esp"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "EFI/debian").mkdir(parents=True)
    shutil.copytree(signed_programs(cache), tree / "EFI/BOOT")
    (tree / "EFI/debian/grub.cfg").write_text(_GRUB.format(line=kernel_line))
    partition = folder / _PARTITION
    partition.unlink(missing_ok=True)
    run(["mformat", "-C", "-F", "-T", str(160 * 2048), "-v", "ESP", "-i", partition, "::"])
    run(["mcopy", "-s", "-i", partition, tree / "EFI", folder / "vmlinuz", folder / "initrd", "::"])


def qemu_options(folder: Path, *, console: Path) -> list[str]:
    """What makes the machine start through this firmware; its console can be typed at, see `Console`."""
    return [
        *("-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"),
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_OVMF / _CODE}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={folder / _KEPT}"),
        *("-drive", f"file={folder / _PARTITION},format=raw,if=none,id=esp,readonly=on"),
        *("-device", "virtio-blk-pci,drive=esp,bootindex=0"),
        *("-chardev", f"socket,id=console,path={_CONSOLE},server=on,wait=off,logfile={console}"),
        *("-serial", "chardev:console"),
    ]


def signed_programs(cache: Path) -> Path:
    """Find the folder with shim, MokManager and GRUB as Debian delivers them, fetched on the first call.

    Call it once before the process goes into a namespace without a network.
    """
    programs = cache / "secure-boot"
    with locked(cache / "lock"):
        if programs.exists():
            return programs
        work = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        try:
            run(["sh", "-ec", 'cd "$0" && apt-get -qq download "$@"', work, *_PACKAGES])
            for package in work.glob("*.deb"):
                run(["dpkg-deb", "-x", package, work / "tree"])
            (work / "programs").mkdir()
            for path, name in _SIGNED.items():
                shutil.copy(work / "tree" / path, work / "programs" / name)
            (work / "programs").rename(programs)
        finally:
            shutil.rmtree(work)
    return programs


class Console:
    """The node's own console, as a person in front of it has it: what is shown, and keys. A context manager.

    While somebody sits there all is read: QEMU lets a machine wait whose console is connected and not read.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder = folder
        self._log = log
        self._seen = log.stat().st_size
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._line = self._stack.enter_context(connected(self._folder, _CONSOLE))
        self._line.settimeout(None)
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        self._stack.callback(reader.join)
        self._stack.callback(self._line.shutdown, socket.SHUT_RDWR)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _read(self) -> None:
        while self._line.recv(65536):  # QEMU itself keeps it, in the log
            pass

    def wait_for(self, text: str, *, timeout_s: float = 120) -> None:
        """Wait until `text` has been shown since the last time.

        Raises:
            LabFailed: it was not, within the time.
        """
        end = time.monotonic() + timeout_s
        while text not in self.shown():
            if time.monotonic() > end:
                raise LabFailed(
                    detail=f"the console does not show {text!r} but {self.shown()[-1500:]!r}",
                    remedy=f"Read {self._log}.",
                )
            time.sleep(0.2)
        self._seen = self._log.stat().st_size

    def shown(self) -> str:
        """What was shown since the last text that was waited for."""
        return _shown(self._log.read_bytes()[self._seen :])

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, at a person's pace."""
        for key in keys:
            self._line.sendall(key.encode())
            time.sleep(0.7)


def _shown(raw: bytes) -> str:
    return _ESCAPES.sub("", raw.decode(errors="replace"))
