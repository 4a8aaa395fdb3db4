"""How fast our way of running plays is, beside `ansible-playbook` as it comes: the same plays on twin nodes.

Run by hand: `.venv/bin/python -m tests.bench.ansible_bench [rounds]` (root on Debian 12; makes two lab
nodes, about four minutes). Each side provisions a node of its own over SSH, which is `full`; then both
run again in turns on their provisioned nodes, which is `converged`. Wall seconds, and CPU seconds of
the controller; of several rounds the least.

Plain means: an empty ansible.cfg, Ansible's own choice of an interpreter, no pipelining, facts for
each play, no events, a Python for each task. Ours is `AnsibleRunner` with every event taken and counted,
as the daemon runs it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bundles.sources import SourceContext, make_source
from tests.lab import Lab, Node
from tests.roles.conftest import CHECKOUT, SLOT_PATH, Site, put_appliance, site_of
from tests.roles.namespaces import inside
from tests.roles.slot import make_slot

ROUNDS = 2


def main() -> None:
    """Measure and print ratios."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    with tempfile.TemporaryDirectory(prefix="ansible-bench-") as name:
        folder = Path(name)
        _make_release(folder / "slot")
        with Lab(folder / "lab") as lab:
            nodes = [_node(lab, side, folder / "slot") for side in ("ours", "plain")]
            with inside(nodes[0].exec_prefix[-1]):
                _measure(folder, nodes, rounds)


def _measure(folder: Path, nodes: list[Node], rounds: int) -> None:
    ours, plain = (site_of(node, folder / node.name) for node in nodes)
    sides: dict[str, Callable[[], int]] = {
        "ours": lambda: ours.apply().changed,
        "plain": lambda: _plain(plain, folder),
    }
    _say("run", "ours_s", "plain_s", "plain/ours", "ours_cpu_s", "plain_cpu_s", "plain/ours", "load")
    _row("full", {name: [_timed(work)] for name, work in sides.items()})
    taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            taken[name].append(_timed(work))
    for name, runs in taken.items():
        if any(changed for _, _, changed in runs):
            raise SystemExit(f"{name}: a converged run has changed something: {runs}")
    _row("converged", taken)
    seconds = sorted(ours.seconds_by_role().items(), key=lambda pair: -pair[1])
    _say("ours, converged, by role: " + ", ".join(f"{role or 'facts'} {spent:.1f} s" for role, spent in seconds))


def _row(name: str, taken: dict[str, list[tuple[float, float, int]]]) -> None:
    wall = {side: min(run[0] for run in runs) for side, runs in taken.items()}
    cpu = {side: min(run[1] for run in runs) for side, runs in taken.items()}
    _say(
        name,
        *(f"{value:.1f}" for value in (wall["ours"], wall["plain"])),
        f"{wall['plain'] / wall['ours']:.2f}",
        *(f"{value:.1f}" for value in (cpu["ours"], cpu["plain"])),
        f"{cpu['plain'] / cpu['ours']:.2f}",
        f"{os.getloadavg()[0]:.1f}",
    )


def _plain(site: Site, folder: Path) -> int:
    """Run `ansible-playbook` as it comes; returns how many tasks changed something."""
    inventory = json.loads(json.dumps(site.inventory))
    for host in inventory["leeward_nodes"]["hosts"].values():
        host.pop("ansible_python_interpreter")
    files = {"plain.json": json.dumps(inventory), "plain-variables.json": json.dumps(site.variables), "plain.cfg": ""}
    for name, text in files.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "--inventory", folder / "plain.json", "--extra-vars", f"@{folder / 'plain-variables.json'}", "site.yml",
        ],
        cwd=CHECKOUT / "playbooks",
        env={**os.environ, "ANSIBLE_CONFIG": str(folder / "plain.cfg"), "ANSIBLE_HOME": str(folder / "plain-home"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "plain-home/cp")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"ansible-playbook failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return int(done.stdout.rpartition("changed=")[2].split()[0])


def _timed(work: Callable[[], int]) -> tuple[float, float, int]:
    wall, cpu = time.perf_counter(), _cpu_s()
    changed = work()
    return time.perf_counter() - wall, _cpu_s() - cpu, changed


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _make_release(slot: Path) -> None:
    make_slot(slot)
    packages = slot / "os/debian-12"
    packages.mkdir(parents=True)
    context = SourceContext(recipe_folder=CHECKOUT, cache=CHECKOUT / ".cache", progress=lambda *_: None)
    make_source({"kind": "debian", "suite": "bookworm", "driver": False}, context).fetch(packages)


def _node(lab: Lab, name: str, slot: Path) -> Node:
    node = lab.create(name)
    node.up()
    node.copy_to(slot, SLOT_PATH)
    put_appliance(node)
    return node


def _say(*words: str) -> None:
    sys.stdout.write("\t".join(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
