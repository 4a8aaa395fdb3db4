"""Step `reboot`: the node restarts where the play asked for it, once, and the operation goes on after it.

    provision      writes RestartNeeded with this boot's id; the slot is not current yet
    reboot         no RestartNeeded in the journal: nothing to do
                   one of this boot: systemd is asked to restart; the daemon's stop leaves the step open
    - the node is down, by that or by a power cut: the journal cannot tell, and need not -
    reboot         RestartNeeded of earlier boots only: provision runs again, and makes the slot current
                   it asks again for the same reason: the restart was in vain, and the operation fails

So a reason costs one restart, whatever kills the node or the daemon, and there are no loops. What a
person must do at the console (a key's enrolment) cannot be asked of systemd: then the step says so
and waits until that person restarts the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.domain.errors import CommandFailed, RestartInVain
from appliance.domain.events import LogLine, RestartNeeded
from appliance.domain.operation import OperationId
from appliance.ports import Journal, NodeBoot, ServiceManager
from appliance.services.steps import Step, StepContext

REBOOT_TARGET: Final = "reboot.target"
GOING_DOWN_LIMIT_S: Final = 600.0
"""How long systemd may take to stop this daemon; units may have up to some minutes to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebootStep:
    """Restarts the node where `provision` needs it.

    Raises RestartInVain, CommandFailed, Canceled, and what `provision` raises.
    """

    boot: NodeBoot
    journal: Journal
    services: ServiceManager
    provision: Step
    sleep: Callable[[float], None] = time.sleep
    monotonic_s: Callable[[], float] = time.monotonic

    def run(self, context: StepContext) -> str:
        """Restart, or go on after it."""
        now, earlier = self._needs(context.operation_id)
        if not now and not earlier:
            return "not needed"
        summary = ""
        if not now:
            context.emit(LogLine(text=f"the node has restarted ({', '.join(sorted(earlier))}); provisioning goes on"))
            summary = self.provision.run(context)
            now, earlier = self._needs(context.operation_id)
            if not now:
                return f"restarted; {summary}"
        if in_vain := sorted(earlier & set(now[-1].reasons)):
            raise RestartInVain(
                detail=f"The node has restarted for {', '.join(in_vain)}, and needs it still: {now[-1].detail}.",
                remedy="Look at the reasons above on the node (docs/drivers.md); then run `leeward provision`.",
            )
        return self._go_down(now[-1], context)

    def _needs(self, operation_id: OperationId) -> tuple[list[RestartNeeded], set[str]]:
        """Return what was written in this boot, and every reason of the boots before it."""
        boot_id = self.boot.boot_id()
        needs, after = [], 0
        while records := self.journal.records(operation_id, after):
            needs += [record.event for record in records if isinstance(record.event, RestartNeeded)]
            after = records[-1].seq
        now = [need for need in needs if need.boot_id == boot_id]
        return now, {name for need in needs if need.boot_id != boot_id for name in need.reasons}

    def _go_down(self, need: RestartNeeded, context: StepContext) -> str:
        """Let the node go down; the daemon's stop ends this by Canceled, and the step stays open."""
        context.stop_if_canceled()
        if need.at_console:
            context.emit(LogLine(text=f"someone must restart the node: {need.detail}"))
        else:
            context.emit(LogLine(text=f"the node restarts: {need.detail}"))
            self.services.start(REBOOT_TARGET)
        began_s = self.monotonic_s()
        while need.at_console or self.monotonic_s() - began_s < GOING_DOWN_LIMIT_S:
            context.stop_if_canceled()
            self.sleep(1.0)
        raise CommandFailed(
            detail=f"systemd was asked to restart the node and has not stopped this daemon in {GOING_DOWN_LIMIT_S:g} s",
            remedy="Look at `systemctl list-jobs` for what hangs, restart the node by hand; the operation goes on.",
        )
