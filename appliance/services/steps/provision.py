"""Step `provision`: the play brings the node into the state that a release asks for; then it is current.

    admit the plan                     where one is named or asked for: nothing that it was made from has moved
    run the play                       puts down units that name the slot; restarts nothing of the engine
    make the ledger                    empty, or brought up to date; no record changes
    point `current` at the slot        one rename; `next` is dropped after it
    audit entry

Killed before the rename, the old slot is still current and the play runs again, changing what is
left to change. Killed after it, `current` names the slot already, `next` may still do so too, and
the play finds nothing to do. Each line may be done again.

Where the play says that the node must restart first, that is journaled and nothing is switched: the
step `reboot` restarts the node and runs this step again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from appliance.checks.demand import brings_driver
from appliance.domain.engine import engine_variables
from appliance.domain.errors import NotFound
from appliance.domain.events import RestartNeeded
from appliance.domain.fit import fit
from appliance.domain.node import NodeFacts
from appliance.domain.provision import PLAYBOOK, local_inventory
from appliance.domain.restart import RestartReason
from appliance.ports import AuditLog, NodeBoot, NodeProbe, PlaybookRunner, PlayRequest, Slots
from appliance.services.plan import Plans, basis_of
from appliance.services.steps import StepContext
from bundles.release import Device, Release


def slot_to_serve(slots: Slots) -> str:
    """Return the slot that waits, else the current one; raises NotFound where no release was imported."""
    slot = slots.pending() or slots.current()
    if slot is None:
        raise NotFound(
            detail="No release has been imported on this node.",
            remedy="Import one first: `leeward install --medium DIR`.",
        )
    return slot


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteVariables:
    """The site's decisions that the play needs; `roles` are variables of roles, ready to be handed on."""

    gateway_port: int
    roles: Mapping[str, object] = field(default_factory=dict)


def play_variables(
    release: Release, slot_path: PurePosixPath, facts: NodeFacts, site: SiteVariables
) -> dict[str, object]:
    """Return every variable of `site.yml` that has no default. Pure; raises Misfit."""
    repository = str(slot_path / "os" / f"{facts.os_id}-{facts.os_version.split('.')[0]}")
    return {
        "base_repository": repository,
        "nvidia_driver_repository": repository,
        "nvidia_driver_enabled": brings_driver(release),
        "engine_vllm_slot": release.slot,
        "engine_vllm_slot_path": str(slot_path),
        "engine_vllm_gpu": release.engine is not None and release.engine.device is Device.CUDA,
        **site.roles,
        "firewall_gateway_port": site.gateway_port,
        **engine_variables(release, slot_path),
    }


class ProvisionStep:
    """Runs the slot's own playbooks.

    Raises PlaybookFailed, Misfit, NotFound, PlanOutdated, PlanNotApproved, LedgerUnavailable, Canceled.
    """

    def __init__(
        self,
        *,
        slots: Slots,
        probe: NodeProbe,
        runner: PlaybookRunner,
        make_ledger: Callable[[], None],
        audit: AuditLog,
        site: SiteVariables,
        boot: NodeBoot,
        plans: Plans,
    ) -> None:
        self._slots = slots
        self._probe = probe
        self._runner = runner
        self._make_ledger = make_ledger
        self._audit = audit
        self._site = site
        self._boot = boot
        self._plans = plans

    def run(self, context: StepContext) -> str:
        """Play, then switch."""
        slot = slot_to_serve(self._slots)
        release, path = self._slots.release(slot), self._slots.path(slot)
        facts = self._probe.facts()
        is_driver_to_come = facts.driver is None and brings_driver(release)
        if not is_driver_to_come:  # GPUs that wait for the release's own driver cannot be counted before the play
            fit(release, facts)
        variables = play_variables(release, PurePosixPath(path), facts, self._site)
        self._plans.admit(context, basis_of(release, facts, variables))
        play = PlayRequest(
            playbooks=path / "playbooks",
            playbook=PLAYBOOK,
            inventory=local_inventory(facts.hostname),
            variables=variables,
        )
        result = self._runner.run(play, emit=context.emit, is_canceled=context.is_canceled)
        if reasons := self._boot.reasons():
            context.emit(restart_needed(self._boot.boot_id(), reasons))
            return f"{slot} waits for a restart of the node; {result.ok} tasks fine, {result.changed} changed"
        if is_driver_to_come:
            fit(release, self._probe.facts())
        self._make_ledger()
        self._activate(slot, context)
        return f"{slot} is current; {result.ok} tasks fine, {result.changed} changed, {result.skipped} skipped"

    def _activate(self, slot: str, context: StepContext) -> None:
        before = self._slots.current()
        if before == slot:
            self._slots.activate(slot)
            return
        details = {"operation": context.operation_id, "before": before or "none"}
        for outcome in ("begun", "succeeded"):
            if outcome == "succeeded":
                self._slots.activate(slot)
            self._audit.append(
                actor=context.actor.name, action="release.activate", object_=slot, outcome=outcome, details=details
            )


def restart_needed(boot_id: str, reasons: Sequence[RestartReason]) -> RestartNeeded:
    """Return the event that tells the step `reboot` of a restart that this boot needs."""
    return RestartNeeded(
        boot_id=boot_id,
        reasons=tuple(reason.name for reason in reasons),
        detail="; ".join(reason.text for reason in reasons),
        at_console=any(reason.at_console for reason in reasons),
    )
