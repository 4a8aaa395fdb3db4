"""One lab node: a disk, an address, and what can be done to it from outside."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import Literal

from tests.lab import cgroup, container, firmware, image, loop, medium, network, ssh, vm
from tests.lab.errors import LabFailed
from tests.lab.medium import FileSystem, Medium
from tests.lab.names import Names, address, mac
from tests.lab.process import run, wait_until

Mode = Literal["container", "vm"]
_BOOT_S = {"container": 60.0, "vm": 300.0}
_POWER_OFF_S = {"container": 60.0, "vm": 180.0}
_CONSOLE_TAIL = 1500
_FILL = "/.lwd-fill"


class Node:
    """One node. Its state is in its folder and in the kernel, so any process can take it up again."""

    def __init__(self, *, names: Names, name: str, index: int, folder: Path, key: Path, cache: Path) -> None:
        self.name = name
        self.folder = folder
        self.disk = folder / "disk.raw"
        self.address = address(index)
        self.exec_prefix = network.exec_prefix(names)
        self.shell = ssh.Shell(
            exec_prefix=self.exec_prefix, address=self.address, key=key, known_hosts=folder / "known_hosts"
        )
        self._names = names
        self._index = index
        self._cache = cache
        self._group = cgroup.path_of(names.node(name))
        self._console = folder / "console.log"
        self._medium = folder / "medium.json"

    # -- power ---------------------------------------------------------------------------------

    def up(
        self,
        *,
        mode: Mode = "container",
        timeout_s: float | None = None,
        memory_mib: int = 2048,
        secure_boot: bool = False,
    ) -> float:
        """Boot, and wait until the boot has ended (well or not: see `system_state`); returns the seconds it took.

        `secure_boot` is for mode vm: the kernel starts through firmware that starts only what is signed.

        Raises:
            LabFailed: it is up in the other mode, it has no kernel (vm), or it does not answer in time.
        """
        begun = time.monotonic()
        if self.is_up:
            if self.mode == mode:
                return 0.0
            raise LabFailed(detail=f"{self.name} is up as {self.mode}", remedy="Call down() first.")
        self._medium.unlink(missing_ok=True)
        network.make_controller(self._names)
        if mode == "container":
            self._start_container()
        else:
            card = network.plug_machine(self._names, node=self.name, index=self._index)
            vm.start(
                group=self._group, folder=self.folder, disk=self.disk, console=self._console,
                exec_prefix=self.exec_prefix, card=card, mac=mac(self._index), memory_mib=memory_mib,
                firmware_cache=self._cache if secure_boot else None,
            )  # fmt: skip
        (self.folder / "mode").write_text(mode)
        self.wait_for_boot(timeout_s=timeout_s or _BOOT_S[mode])
        return time.monotonic() - begun

    def _start_container(self) -> None:
        network.plug_container(self._names, node=self.name, index=self._index)
        outside = self._names.node(self.name)
        root = self.folder / "root"
        container.start(
            group=self._group,
            disk=self.disk,
            root=root,
            console=self._console,
            nspawn=container.nspawn_command(root=root, machine=outside, hostname=self.name, namespace=outside),
        )
        wait_until(lambda: self.is_up, timeout_s=5)

    def wait_for_boot(self, *, timeout_s: float) -> None:
        """Wait until systemd says that the boot has ended; after a reboot from inside, call it again."""
        end = time.monotonic() + timeout_s
        while self.shell.run("systemctl is-system-running --wait", check=False).returncode == ssh.UNREACHABLE:
            if not self.is_up or time.monotonic() > end:
                why = "died" if not self.is_up else f"did not answer within {timeout_s:g} s"
                raise LabFailed(
                    detail=f"{self.name} {why}; its console ends: {self.console()[-_CONSOLE_TAIL:]}",
                    remedy=f"Read {self._console}.",
                )
            time.sleep(0.1)

    @property
    def is_up(self) -> bool:
        """Whether any process of the node is alive."""
        return cgroup.populated(self._group)

    @property
    def mode(self) -> Mode:
        """How the node is up, or was last."""
        return "vm" if (self.folder / "mode").read_text() == "vm" else "container"

    def system_state(self) -> str:
        """What systemd says of itself: running, degraded, ..."""
        return self.ssh("systemctl is-system-running", check=False).stdout.strip()

    def console(self) -> str:
        """What the node has printed on its console since it was last started."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def sit_down_at_console(self) -> firmware.Console:
        """Go to the console of a node with Secure Boot: what it shows from now on can be read and answered."""
        return firmware.Console(self.folder, self._console)

    def down(self) -> None:
        """Power off cleanly; cut the power when the node does not obey."""
        if self.is_up:
            limit = _POWER_OFF_S[self.mode]
            if self.mode == "container":
                obeyed = container.power_off(self._group, timeout_s=limit)
            else:
                self.ssh("systemctl poweroff", check=False)
                obeyed = wait_until(lambda: not self.is_up, timeout_s=limit)
            if not obeyed:
                self.cut()
        self._after_power()

    def cut(self) -> None:
        """Cut the power at once: what the node had not synced to its disk is lost."""
        if self.is_up and self.mode == "container":
            container.stop_disk(self._group)
        if not cgroup.kill(self._group):
            raise LabFailed(detail=f"{self.name} outlives SIGKILL", remedy=f"Look at the processes in {self._group}.")
        self._after_power()

    def _after_power(self) -> None:
        """Take the cards away and see that the kernel has let go of the node's disks."""
        self._medium.unlink(missing_ok=True)
        network.unplug(self._names, node=self.name, index=self._index)
        cgroup.remove(self._group)
        if not self._disks_are_free(timeout_s=60):
            for held in loop.devices_under(self.folder):
                loop.release(held.device)
            if not self._disks_are_free(timeout_s=60):
                raise LabFailed(
                    detail=f"the kernel does not let go of {self.name}'s disk",
                    remedy="Wait; started again now, two kernels' views of it would meet.",
                )

    def _disks_are_free(self, *, timeout_s: float) -> bool:
        """Wait until no loop device holds a disk; on a busy machine the last writes take their time."""
        return wait_until(lambda: not loop.devices_under(self.folder), timeout_s=timeout_s)

    def destroy(self) -> None:
        """Cut the power and remove everything of the node."""
        self.cut()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- commands and files --------------------------------------------------------------------

    def ssh(
        self,
        command: str,
        *,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run has for it
        timeout_s: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the node as root.

        Raises:
            LabFailed: it failed (only with `check`) or ran out of time.
        """
        return self.shell.run(command, check=check, input=input, timeout_s=timeout_s)

    def copy_to(self, local: Path, remote: str) -> None:
        """Copy a file to the path `remote`, or a folder's content into the folder `remote` (owner root)."""
        self.shell.put(local, remote)

    def copy_from(self, remote: str, local: Path) -> None:
        """Copy a file to the path `local`, or a folder's content into the folder `local`."""
        self.shell.get(remote, local)

    # -- media ---------------------------------------------------------------------------------

    def attach_medium(
        self,
        content: Path,
        *,
        at: str = "/media/leeward",
        filesystem: FileSystem = "ext4",
        read_only: bool = True,
        options: str = "noexec,nosuid,nodev",
    ) -> Medium:
        """Plug in a stick that holds a folder's content (a new image), or a block image (used in place).

        Raises:
            LabFailed: a medium is in already, or the kernel does not mount this file system.
        """
        if self.medium is not None:
            raise LabFailed(detail=f"{self.name} has a medium in already", remedy="Call detach_medium() first.")
        stick = content.resolve()
        if not stick.is_file():
            stick = self.folder / "medium.raw"
            medium.build(content, stick, filesystem=filesystem)
        attached = Medium(image=stick, at=at, filesystem=filesystem, read_only=read_only)
        if self.mode == "container":
            attached = medium.mount_into(self._leader(), attached, options=options)
        else:
            vm.plug_stick(self.folder, self.shell, attached, options=options)
        self._medium.write_text(json.dumps(_to_json(attached)))
        return attached

    @property
    def medium(self) -> Medium | None:
        """The medium that is in, pulled or not."""
        return _from_json(json.loads(self._medium.read_text())) if self._medium.exists() else None

    def pull_medium(self) -> None:
        """Pull the stick without a word: later reads fail with EIO, the dead mount stays."""
        stick = self._attached()
        if self.mode == "container":
            medium.pull_out(self._leader(), stick)
        else:
            vm.pull_stick(self.folder)

    def detach_medium(self) -> Medium:
        """Unmount the medium and take it out; works on a pulled one too."""
        stick = self._attached()
        if self.mode == "container":
            medium.unmount_from(self._leader(), stick)
        else:
            vm.unplug_stick(self.folder, self.shell, stick)
        self._medium.unlink()
        wait_until(lambda: stick.image not in {held.backing for held in loop.all_devices()}, timeout_s=5)
        return stick

    def _attached(self) -> Medium:
        stick = self.medium
        if stick is None:
            raise LabFailed(detail=f"{self.name} has no medium in", remedy="Call attach_medium() first.")
        return stick

    def _leader(self) -> int:
        leader = cgroup.leader(self._group)
        if leader is None:
            raise LabFailed(detail=f"{self.name} is not up", remedy="Call up() first.")
        return leader

    # -- disk ----------------------------------------------------------------------------------

    def free_bytes(self) -> int:
        """Room left on the node's disk."""
        blocks, block_bytes = self.ssh("stat --file-system --format='%a %S' /").stdout.split()
        return int(blocks) * int(block_bytes)

    def fill_disk(self, leave_bytes: int) -> None:
        """Take room on the node's disk until only `leave_bytes` (to within 1 MiB) are left; see `free_disk`."""
        take = self.free_bytes() - leave_bytes
        if take > 0:
            self.ssh(f"fallocate --length {take} {shlex.quote(_FILL)}")

    def free_disk(self) -> None:
        """Give back what `fill_disk` took."""
        self.ssh(f"rm -f {shlex.quote(_FILL)}")


def prepare(*, base: Path, folder: Path, name: str, index: int, authorized_key: str) -> None:
    """Make a node's own disk: a copy of the base with its name, address, host key and the lab's key."""
    folder.mkdir(parents=True, exist_ok=True)
    disk, seed, root = folder / "disk.raw", folder / "seed", folder / "root"
    image.copy_sparse(base, disk)
    root.mkdir()
    ssh.make_key(folder / "host_key", comment=name)
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"{address(index)} {' '.join(public.split()[:2])}\n")
    files = {
        "etc/hostname": (0o644, f"{name}\n"),
        "etc/hosts": (0o644, f"127.0.0.1 localhost\n127.0.1.1 {name}\n"),
        "etc/machine-id": (0o444, f"{uuid.uuid4().hex}\n"),
        "etc/systemd/network/10-lab.network": (0o644, _NETWORK.format(mac=mac(index), address=address(index))),
        "etc/ssh/ssh_host_ed25519_key": (0o600, (folder / "host_key").read_text()),
        "etc/ssh/ssh_host_ed25519_key.pub": (0o644, public),
        "root/.ssh/authorized_keys": (0o600, authorized_key),
    }
    script = 'mount -o loop,noinit_itable "$1" "$2" || exit; cd "$3" && find . -type f -exec cp -p {} "$2"/{} ";"'
    for path, (mode, text) in files.items():
        (seed / path).parent.mkdir(parents=True, exist_ok=True)
        (seed / path).write_text(text)
        (seed / path).chmod(mode)
    # In a mount namespace of its own, so that no crash can leave the mount behind.
    run(["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", disk, root, seed])
    shutil.rmtree(seed)


_NETWORK = """\
[Match]
MACAddress={mac}
[Network]
Address={address}/24
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


def _to_json(stick: Medium) -> dict[str, object]:
    return {
        "image": str(stick.image),
        "at": stick.at,
        "filesystem": stick.filesystem,
        "read_only": stick.read_only,
        "device": str(stick.device) if stick.device else None,
    }


def _from_json(kept: dict[str, object]) -> Medium:
    return Medium(
        image=Path(str(kept["image"])),
        at=str(kept["at"]),
        filesystem=kept["filesystem"],  # type: ignore[arg-type]  # written by _to_json
        read_only=bool(kept["read_only"]),
        device=Path(str(kept["device"])) if kept["device"] else None,
    )
