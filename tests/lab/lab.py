"""The lab at one folder: makes nodes, takes them up again, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import cleanup, image, network, nvml, requirements, ssh
from tests.lab.cleanup import Swept
from tests.lab.errors import LabFailed
from tests.lab.image import locked
from tests.lab.names import MAX_NODES, Names
from tests.lab.node import Node, prepare

CHECKOUT = Path(__file__).resolve().parents[2]
MOCK_NVML_IN_NODE = "/opt/leeward-lab/libnvidia-ml.so.1"
NVML_FAULTS_IN_NODE = "/run/leeward-lab/nvml-fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that a node belongs to; start time in clock ticks since boot (proc_pid_stat(5))."""

    pid: int
    started: int

    @classmethod
    def this_process(cls) -> Owner:
        started = _started(os.getpid())
        assert started is not None
        return cls(pid=os.getpid(), started=started)

    def is_alive(self) -> bool:
        return _started(self.pid) == self.started


class Lab:
    """All nodes under one folder. As a context manager it destroys, at its end, the nodes it made.

    Args:
        root: everything lies under it; `<checkout>/.build/lab` when not given.
        cache: base disks; `<checkout>/.cache/lab` when not given.
        keep: nodes outlive this process, until `destroy` (the command line works so).
    """

    def __init__(self, root: Path | None = None, *, cache: Path | None = None, keep: bool = False) -> None:
        self.root = (root or CHECKOUT / ".build/lab").resolve()
        self.cache = (cache or CHECKOUT / ".cache/lab").resolve()
        self._names = Names(root=self.root)
        self._owner = None if keep else Owner.this_process()
        self._swept = False

    @property
    def exec_prefix(self) -> tuple[str, ...]:
        """What stands before a command that shall run in the controller's namespace."""
        return network.exec_prefix(self._names)

    def require(self) -> None:
        """See whether nodes can be made here; change nothing.

        Raises:
            LabUnavailable: says everything that is missing.
        """
        requirements.require()

    def base(self, *, with_kernel: bool = False) -> Path:
        """The disk that nodes start from; made on the first call, then cached.

        Raises:
            LabUnavailable: this machine cannot hold nodes, or its apt names no mirror.
            LabFailed: a tool failed.
        """
        self.require()
        return image.base(self.cache, with_kernel=with_kernel)

    def create(self, name: str, *, with_kernel: bool = False) -> Node:
        """Make a node that is not up yet. `with_kernel` is needed for mode vm and for driver builds.

        Raises:
            LabUnavailable: this machine cannot hold nodes.
            LabFailed: there is a node of this name, or a tool failed.
        """
        disk = self.base(with_kernel=with_kernel)
        requirements.install_tools({"ip": "iproute2", "ssh": "openssh-client"})
        if not self._swept:
            self.sweep()
        outside = self._names.node(name)
        with locked(self.root / "lock"):
            cleanup.remember(self._names)
            folder = self._folder(name)
            if folder.exists():
                raise LabFailed(detail=f"there is a node {name} ({outside})", remedy="Destroy it, or use node().")
            ssh.make_key(self._key, comment="leeward-lab")
            taken = {_record(path)["index"] for path in self._records()}
            index = next(number for number in range(1, MAX_NODES) if number not in taken)
            owner = {"pid": self._owner.pid, "started": self._owner.started} if self._owner else None
            folder.mkdir(parents=True)
            (folder / "node.json").write_text(json.dumps({"index": index, "owner": owner}))
        prepare(base=disk, folder=folder, name=name, index=index, authorized_key=self._public_key())
        return self.node(name)

    def node(self, name: str) -> Node:
        """A node that was made before, here or by another process.

        Raises:
            LabFailed: there is none of this name.
        """
        self._names.node(name)
        if not (self._folder(name) / "known_hosts").exists():
            raise LabFailed(detail=f"there is no node {name} in {self.root}", remedy="Create it first.")
        index = _record(self._folder(name) / "node.json")["index"]
        return Node(
            names=self._names, name=name, index=index, folder=self._folder(name), key=self._key, cache=self.cache
        )

    def nodes(self) -> tuple[Node, ...]:
        """Every node there is."""
        complete = (path.parent for path in self._records() if (path.parent / "known_hosts").exists())
        return tuple(self.node(folder.name) for folder in complete)

    def install_mock_nvml(self, node: Node) -> str:
        """Put the simulated GPU library on a node; returns its path there."""
        node.copy_to(nvml.build(self.cache), MOCK_NVML_IN_NODE)
        return MOCK_NVML_IN_NODE

    def set_gpu_faults(self, node: Node, *lines: str) -> None:
        """Let the simulated GPUs have exactly these faults and settings from now on, such as `2:hot`.

        What there is to choose from stands at the top of nvml/mocknvml.c.
        """
        path = NVML_FAULTS_IN_NODE
        node.ssh(
            f"mkdir -p {path.rpartition('/')[0]} && cat > {path}.new && mv {path}.new {path}", input="\n".join(lines)
        )

    def sweep(self, *, everything: bool = False) -> Swept:
        """Remove what crashed runs left: nodes whose owner is gone, and whatever bears the lab's names without a node.

        With `everything`, nodes that are kept or that another process owns go too. Idempotent.
        """
        self.require()
        self._swept = True
        removed: list[str] = []
        with locked(self.root / "lock"):
            for orphan in cleanup.orphans():
                removed += cleanup.remove(cleanup.look(orphan), names=orphan).removed
                cleanup.forget(orphan)
            kept = [] if everything else [path.parent.name for path in self._records() if _is_kept(path)]
            removed += self._remove_all_but(kept)
        return Swept(removed=tuple(removed))

    def _remove_all_but(self, kept: list[str]) -> tuple[str, ...]:
        left = cleanup.stale(cleanup.look(self._names), names=self._names, kept=kept)
        return cleanup.remove(left, names=self._names).removed

    def destroy(self) -> None:
        """Destroy all nodes and the lab's folder; the cache of base disks stays."""
        self.sweep(everything=True)
        cleanup.forget(self._names)
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owner is not None and self.root.exists():
            self._remove_all_but(
                [path.parent.name for path in self._records() if _owner(path) != self._owner and _is_kept(path)]
            )
            if not self._records():
                cleanup.forget(self._names)

    @property
    def _key(self) -> Path:
        return self.root / "keys/lab"

    def _public_key(self) -> str:
        return self._key.with_suffix(".pub").read_text()

    def _folder(self, name: str) -> Path:
        return self.root / "nodes" / name

    def _records(self) -> list[Path]:
        return sorted(self.root.glob("nodes/*/node.json"))


def _record(path: Path) -> dict[str, int]:
    kept: dict[str, int] = json.loads(path.read_text())
    return kept


def _owner(path: Path) -> Owner | None:
    owner = json.loads(path.read_text())["owner"]
    return Owner(**owner) if owner else None


def _is_kept(path: Path) -> bool:
    owner = _owner(path)
    return owner is None or owner.is_alive()


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    return int(stat.rpartition(")")[2].split()[19])
