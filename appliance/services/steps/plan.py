"""Step `plan`: the current play is tried on the node, and what it would do is kept under a digest.

Changes nothing on the node but the plan's own file. Killed, it is simply made again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from appliance.checks.demand import ENVIRONMENT_BYTES_PER_WHEEL_BYTE, brings_driver, builds_driver, wheels_bytes
from appliance.domain.events import PlanMade, TaskFinished, TaskOutcome
from appliance.domain.node import NodeFacts
from appliance.domain.operation import OperationKind, StepName
from appliance.domain.plan import SCHEMA, Plan, PlannedTask, Prediction, estimate
from appliance.domain.provision import PLAYBOOK, local_inventory
from appliance.ports import Clock, Journal, NodeBoot, NodeProbe, PlaybookRunner, PlayRequest, Slots
from appliance.services.plan import Plans, basis_of
from appliance.services.steps import StepContext
from appliance.services.steps.provision import SiteVariables, play_variables, slot_to_serve
from bundles.release import Release

TAGS: Final = ("precheck", "install", "configure")
"""Not `verify`: it asks for what was not done."""
OPERATIONS_LOOKED_AT: Final = 50
_TOOK_TIME: Final = {TaskOutcome.OK, TaskOutcome.CHANGED}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """Makes a plan. Raises NotFound, Misfit, PlaybookFailed where the play would refuse, Canceled, StoreUnusable."""

    slots: Slots
    probe: NodeProbe
    runner: PlaybookRunner
    boot: NodeBoot
    journal: Journal
    clock: Clock
    plans: Plans
    site: SiteVariables
    node: str

    def run(self, context: StepContext) -> str:
        """Try, then keep."""
        slot = slot_to_serve(self.slots)
        release, path = self.slots.release(slot), self.slots.path(slot)
        facts = self.probe.facts()
        variables = play_variables(release, PurePosixPath(path), facts, self.site)
        play = PlayRequest(
            playbooks=path / "playbooks",
            playbook=PLAYBOOK,
            inventory=local_inventory(facts.hostname),
            variables=variables,
            tags=TAGS,
            step=StepName.PLAN,
        )
        tasks = self.runner.predict(play, emit=context.emit, is_canceled=context.is_canceled)
        plan = Plan(
            schema=SCHEMA,
            node=self.node,
            made_at=self.clock.now(),
            made_by=context.actor.name,
            basis=basis_of(release, facts, variables),
            tasks=tasks,
            estimate=estimate(tasks, self._recorded(tasks)),
            consequences=(*consequences(release, facts), *(reason.text for reason in self.boot.reasons())),
            disk_peak_bytes=disk_peak_bytes(release, facts),
        )
        self.plans.store.keep(plan)
        context.emit(PlanMade(digest=plan.digest))
        counts = ", ".join(f"{plan.count(prediction)} {prediction.value}" for prediction in Prediction)
        return f"{counts}; about {plan.estimate.seconds} s; plan {plan.digest}"

    def _recorded(self, tasks: Iterable[PlannedTask]) -> dict[tuple[str, str], list[float]]:
        """Return what tasks took before on this node: when they had to do something, or when they had not."""
        wanted = {(task.role, task.task): task.prediction is not Prediction.UNCHANGED for task in tasks}
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for operation_id, request, _ in self.journal.operations(OPERATIONS_LOOKED_AT):
            if request.kind not in {OperationKind.INSTALL, OperationKind.PROVISION}:
                continue
            after = 0
            while records := self.journal.records(operation_id, after):
                after = records[-1].seq
                for event in (record.event for record in records):
                    if isinstance(event, TaskFinished) and event.outcome in _TOOK_TIME:
                        key = (event.role, event.task)
                        if wanted.get(key) is (event.outcome is TaskOutcome.CHANGED):
                            found[key].append(event.duration_s)
        return found


def consequences(release: Release, facts: NodeFacts) -> tuple[str, ...]:
    """Say what happens to kernel, driver and service. Pure."""
    found = []
    if release.slot != facts.current_slot:
        found.append(f"release {release.slot} becomes current in place of {facts.current_slot or 'none'}")
        found.append("the engine restarts: requests are refused until the model is loaded")
    if brings_driver(release):
        was = "none is loaded" if facts.driver is None else f"{facts.driver.version} is loaded"
        found.append(f"the release's GPU driver is installed and frozen with its kernels ({was})")
        if builds_driver(release, facts):
            found.append("the driver's modules are compiled on the node")
        if "nouveau" in facts.kernel_modules:
            found.append("the node must restart: nouveau holds the GPUs")
        elif facts.driver is not None:
            found.append("the node must restart if the release's driver is another than the loaded one")
        if facts.secure_boot:
            found.append("with Secure Boot a key may have to be enrolled at the node's own console")
    return tuple(found)


def disk_peak_bytes(release: Release, facts: NodeFacts) -> int:
    """Return how much more is used while the environments are made; an upper bound. Pure."""
    if release.slot == facts.current_slot:
        return 0
    packages = sum(file.size_bytes for file in release.files if file.path.startswith("os/"))
    return ENVIRONMENT_BYTES_PER_WHEEL_BYTE * (wheels_bytes(release) + packages)
