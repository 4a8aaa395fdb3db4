"""The lab by hand: `python -m tests.lab up n1`, `python -m tests.lab ssh n1 'systemctl status'`.

Nodes made here are kept until they are destroyed here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bundles.errors import LeewardError
from tests.lab import Lab


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="Real Debian 12 nodes without a network.")
    parser.add_argument("--root", type=Path, help="the lab's folder (default: .build/lab in the checkout)")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, *, node: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        if node:
            added.add_argument("node")
        return added

    base = command("base", "make the base disk, or see that it is there", node=False)
    base.add_argument("--kernel", action="store_true", help="with Debian's kernel")
    create = command("create", "make a node")
    create.add_argument("--kernel", action="store_true", help="with Debian's kernel, for --vm")
    up = command("up", "start a node; makes it first if it is not there")
    up.add_argument("--vm", action="store_true", help="as a virtual machine (slow)")
    command("down", "power a node off")
    command("cut", "cut a node's power")
    command("destroy", "remove a node")
    ssh = command("ssh", "run a command in a node as root, or a shell")
    ssh.add_argument("words", nargs=argparse.REMAINDER)
    attach = command("attach", "plug in a medium with a folder's content, or an image")
    attach.add_argument("content", type=Path)
    attach.add_argument("--at", default="/media/leeward")
    attach.add_argument("--writable", action="store_true")
    command("pull", "pull the medium out without a word")
    command("detach", "unmount the medium and take it out")
    command("mock-nvml", "put the simulated GPU library on a node")
    control = command("ctl", "run a command in the controller's namespace", node=False)
    control.add_argument("words", nargs=argparse.REMAINDER)
    command("list", "list the nodes", node=False)
    sweep = command("sweep", "remove what crashed runs left", node=False)
    sweep.add_argument("--everything", action="store_true", help="nodes that are kept or in use as well")
    command("clean", "destroy all nodes and the lab's folder", node=False)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    asked = _parser().parse_args(argv)
    lab = Lab(asked.root, keep=True)
    try:
        return _lab_command(lab, asked) if not hasattr(asked, "node") else _node_command(lab, asked)
    except LeewardError as error:
        sys.stderr.write(f"{error}\n{error.remedy}\n")
        return error.exit_status


def _say(value: object) -> None:
    sys.stdout.write(f"{value}\n")


def _lab_command(lab: Lab, asked: argparse.Namespace) -> int:
    begun = time.monotonic()
    match asked.command:
        case "base":
            _say(f"{lab.base(with_kernel=asked.kernel)} ({time.monotonic() - begun:.1f} s)")
        case "ctl":
            os.execvp(lab.exec_prefix[0], [*lab.exec_prefix, *asked.words])  # noqa: S606 - becomes the command
        case "list":
            for node in lab.nodes():
                _say(f"{node.name} {node.address} {f'up ({node.mode})' if node.is_up else 'down'}")
        case "sweep":
            _say("\n".join(lab.sweep(everything=asked.everything).removed))
        case "clean":
            lab.destroy()
    return 0


def _node_command(lab: Lab, asked: argparse.Namespace) -> int:
    if asked.command == "create":
        _say(lab.create(asked.node, with_kernel=asked.kernel).address)
        return 0
    if asked.command == "up" and asked.node not in {node.name for node in lab.nodes()}:
        lab.create(asked.node, with_kernel=asked.vm)
    node = lab.node(asked.node)
    match asked.command:
        case "up":
            took_s = node.up(mode="vm" if asked.vm else "container")
            _say(f"{node.name} {node.address} {node.system_state()} ({took_s:.1f} s)")
        case "ssh":
            argv = node.shell.argv(" ".join(asked.words))
            os.execvp(argv[0], argv if asked.words else argv[:-1])  # noqa: S606 - becomes ssh
        case "attach":
            _say(node.attach_medium(asked.content, at=asked.at, read_only=not asked.writable))
        case "mock-nvml":
            _say(lab.install_mock_nvml(node))
        case simple:
            {
                "down": node.down,
                "cut": node.cut,
                "destroy": node.destroy,
                "pull": node.pull_medium,
                "detach": node.detach_medium,
            }[simple]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
