"""A plan: what provisioning would change on a node, before it changes anything. Pure.

A plan holds what it was made from: the facts that count, the release's digest and the digest of the
play's variables. Its own digest covers everything in it, the text of each difference included, so
that who approves a digest approves what was shown. It is out of date as soon as one of those facts
moved, and says which.

What a plan cannot know it says: a task that Ansible cannot try without doing it is `not-predictable`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import median
from typing import Final

from appliance.domain.node import NodeFacts
from appliance.domain.wire import to_plain
from bundles.codec import canonical_json

SCHEMA: Final = "leeward-plan/1"
TASK_S: Final = 0.5
"""One task that finds nothing to do, over a local connection with pipelining; measured 0.3 to 0.6 s on a lab node."""
MEASURED_S: Final[Mapping[tuple[str, str], float]] = {
    ("engine_vllm", "Libraries and compiler of the engine are present"): 12.0,
    ("engine_vllm", "The wheels are installed by their hashes"): 69.0,
    ("nvidia_driver", "Driver packages are present and the modules compiled"): 493.0,
}
"""Tasks that take longer than others, in seconds; used where this node's journal does not know better.

Measured on a lab node of two cores that others used too. Wheels: the CPU engine, 2.47 GB. Driver: 69
packages, 163 MB, and a DKMS build for one kernel. GPU engines are larger, so theirs takes longer.
"""


class Prediction(StrEnum):
    """What a task would do."""

    CHANGES = "changes"
    UNCHANGED = "unchanged"
    NOT_PREDICTABLE = "not-predictable"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTask:
    """One task; `detail` is the difference that it would make, or why that cannot be said."""

    role: str
    task: str
    prediction: Prediction
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long it may take, and how many of the tasks that is known of from this node's own journal."""

    seconds: int
    recorded_tasks: int
    tabled_tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a plan was made from; where it moved, the plan no longer holds."""

    slot: str
    release_sha256: str
    variables_sha256: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What provisioning would do; `consequences` are for people: kernel, driver, restart, packages."""

    schema: str
    node: str
    made_at: datetime
    made_by: str
    basis: Basis
    tasks: tuple[PlannedTask, ...]
    estimate: Estimate
    consequences: tuple[str, ...]
    disk_peak_bytes: int

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical JSON of everything in the plan."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return canonical_json(to_plain(self))

    def count(self, prediction: Prediction) -> int:
        """Return how many tasks are predicted so."""
        return sum(task.prediction is prediction for task in self.tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A plan with its digest and with who approved it; nobody yet where that is empty."""

    digest: str
    plan: Plan
    approved_by: str = ""


def moved(basis: Basis, now: Basis) -> tuple[str, ...]:
    """Return what is no longer as the plan saw it, each as `name: was X, is Y`."""
    found = []
    if basis.slot != now.slot:
        found.append(f"release: was {basis.slot}, is {now.slot}")
    elif basis.release_sha256 != now.release_sha256:
        found.append(f"content of release {now.slot}: was {basis.release_sha256[:12]}, is {now.release_sha256[:12]}")
    if basis.variables_sha256 != now.variables_sha256:
        found.append("site configuration: other variables follow from leeward.toml now")
    names = sorted({*basis.facts, *now.facts})
    pairs = ((name, basis.facts.get(name, "unknown"), now.facts.get(name, "unknown")) for name in names)
    return (*found, *(f"{name}: was {was}, is {new}" for name, was, new in pairs if was != new))


def facts_that_count(facts: NodeFacts) -> dict[str, str]:
    """Return the facts on which the outcome of a play depends, as text; what moves by itself is left out.

    Free disk space, temperatures, load and open ports are left out: preflight judges them each time.
    """
    packages = facts.driver_packages
    gpus = (f"{gpu.index} {gpu.name} {gpu.uuid} {gpu.memory_total_bytes}" for gpu in facts.gpus)
    return {
        "accounts": _listed(f"{each.name}={each.uid}" for each in facts.accounts or ()),
        "architecture": facts.architecture,
        "broken packages": _listed(facts.broken_packages),
        "container": str(facts.virtualization),
        "current release": str(facts.current_slot),
        "driver": "none" if facts.driver is None else facts.driver.version,
        "driver on disk": f"{packages.module_version} {packages.module_flavour}",
        "fabric manager": str(packages.fabric_manager_version),
        "GPUs": _listed(gpus),
        "GPUs on the bus": str(facts.pci_gpu_count),
        "host name": facts.hostname,
        "installed kernels": _listed(facts.installed_kernels),
        "kernel": facts.kernel,
        "nouveau": "loaded" if "nouveau" in facts.kernel_modules else "not loaded",
        "operating system": f"{facts.os_id} {facts.os_version}",
        "restart pending": str(facts.reboot_required),
        "Secure Boot": str(facts.secure_boot),
        "SELinux": str(facts.selinux),
        "time source": str(facts.time_source),
    }


def _listed(values: Iterable[str] | None) -> str:
    return "unknown" if values is None else ", ".join(sorted(values)) or "none"


def variables_digest(variables: Mapping[str, object]) -> str:
    """Return the SHA-256 of a play's variables."""
    return hashlib.sha256(canonical_json(to_plain(dict(variables)))).hexdigest()


def estimate(tasks: Iterable[PlannedTask], recorded: Mapping[tuple[str, str], Iterable[float]]) -> Estimate:
    """Add up what the tasks took on this node before (the median), else what the table says.

    A task that would change nothing costs `TASK_S` where the journal does not know it.
    """
    total, known, tabled = 0.0, 0, 0
    for task in tasks:
        key = (task.role, task.task)
        if durations := tuple(recorded.get(key, ())):
            total += median(durations)
            known += 1
        else:
            total += TASK_S if task.prediction is Prediction.UNCHANGED else MEASURED_S.get(key, TASK_S)
            tabled += 1
    return Estimate(seconds=math.ceil(total), recorded_tasks=known, tabled_tasks=tabled)
