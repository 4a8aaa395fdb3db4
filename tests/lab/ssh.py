"""Reaches a node over the lab's network with OpenSSH: keys of the lab, host key pinned, nothing of the user's."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabFailed
from tests.lab.process import run

UNREACHABLE = 255  # ssh(1), "EXIT STATUS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """The way into one node as root."""

    exec_prefix: tuple[str, ...]
    address: str
    key: Path
    known_hosts: Path

    def options(self) -> list[str]:
        """Options for ssh, and for whatever drives ssh (Ansible's ansible_ssh_common_args)."""
        chosen = {
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": 3,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 3,
        }
        words = ["-F", "/dev/null", "-i", str(self.key)]
        for name, value in chosen.items():
            words += ["-o", f"{name}={value}"]
        return words

    def argv(self, command: str) -> list[str]:
        """The whole command line that runs `command` in the node's shell."""
        return [*self.exec_prefix, "ssh", *self.options(), f"root@{self.address}", command]

    def run(
        self,
        command: str,
        *,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run has for it
        timeout_s: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the node as root.

        Raises:
            LabFailed: it failed (only with `check`) or ran out of time.
        """
        return run(self.argv(command), check=check, input=input, timeout_s=timeout_s)

    def put(self, local: Path, remote: str) -> None:
        """Copy a file to the path `remote`, or the content of a folder into the folder `remote`."""
        to = shlex.quote(remote)
        if local.is_dir():
            self._pipe(
                ["tar", "-C", str(local), "--owner=0", "--group=0", "-cf", "-", "."],
                self.argv(f"mkdir -p {to} && tar -C {to} -xpf -"),
            )
        else:
            mode = local.stat().st_mode & 0o777
            self._pipe(["cat", str(local)], self.argv(f"install -D -m {mode:o} /dev/stdin {to}"))

    def get(self, remote: str, local: Path) -> None:
        """Copy a file to the path `local`, or the content of a folder into the folder `local`."""
        source = shlex.quote(remote)
        if self.run(f"test -d {source}", check=False).returncode == 0:
            local.mkdir(parents=True, exist_ok=True)
            self._pipe(self.argv(f"tar -C {source} -cf - ."), ["tar", "-C", str(local), "--no-same-owner", "-xpf", "-"])
        else:
            local.parent.mkdir(parents=True, exist_ok=True)
            self._pipe(self.argv(f"cat -- {source}"), ["cp", "/dev/stdin", str(local)])

    def _pipe(self, left: list[str], right: list[str]) -> None:
        with (
            subprocess.Popen(left, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender,
            subprocess.Popen(right, stdin=sender.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as receiver,
        ):
            assert sender.stdout is not None
            assert sender.stderr is not None
            sender.stdout.close()  # so that the sender ends when the receiver does
            said = receiver.communicate()[1] + sender.stderr.read()
        if sender.returncode or receiver.returncode:
            raise LabFailed(
                detail=f"copying with `{shlex.join(left)}` | `{shlex.join(right)}` failed: {said.decode().strip()}",
                remedy="See that the node is up and that the path is there.",
            )


def make_key(path: Path, *, comment: str) -> None:
    """Make an Ed25519 key pair unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
