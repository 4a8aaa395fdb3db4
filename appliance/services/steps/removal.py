"""Step `remove`: the current release's own play takes Leeward off the node.

    check the words                    they name this node; records go only for the whole sentence
    run the play                       roles in reverse, then packages and accounts that the node did not have
    - the operation ends -
    leeward-leave.service              takes the daemon, its environment and the releases; it was set down by the play

Killed before the play's end, the play runs again and finds less to do. Killed after it, the unit
goes on with the next start of the node; it waits until no operation is unfinished.
"""

from __future__ import annotations

from pathlib import Path

from appliance.domain.errors import NotFound
from appliance.domain.operation import StepName
from appliance.domain.provision import UNINSTALL_PLAYBOOK, local_inventory
from appliance.domain.removal import Removal
from appliance.ports import NodeProbe, PlaybookRunner, PlayRequest, Slots
from appliance.services.steps import StepContext


class RemovalStep:
    """Runs the slot's own uninstallation. Raises RequestInvalid, NotFound, PlaybookFailed, Canceled."""

    def __init__(self, *, slots: Slots, probe: NodeProbe, runner: PlaybookRunner, node: str) -> None:
        self._slots = slots
        self._probe = probe
        self._runner = runner
        self._node = node

    def run(self, context: StepContext) -> str:
        """Check, then play."""
        removal = Removal.of(context.parameters, node=self._node)
        play = PlayRequest(
            playbooks=self._playbooks(),
            playbook=UNINSTALL_PLAYBOOK,
            inventory=local_inventory(self._probe.facts().hostname),
            variables=removal.variables,
            step=StepName.REMOVE,
        )
        result = self._runner.run(play, emit=context.emit, is_canceled=context.is_canceled)
        kept = "records of the site go too" if removal.records else "records of the site stay in /var/lib/leeward"
        return f"{result.changed} tasks changed; {kept}; leeward-leave.service removes releases and daemon now"

    def _playbooks(self) -> Path:
        slot = self._slots.current() or self._slots.pending()
        playbooks = None if slot is None else self._slots.path(slot) / "playbooks"
        if playbooks is None or not (playbooks / UNINSTALL_PLAYBOOK).is_file():
            found = "no release" if slot is None else f"release {slot}, which brings no {UNINSTALL_PLAYBOOK}"
            raise NotFound(
                detail=f"The play that removes Leeward comes with a release; this node has {found}.",
                remedy="Import a release of this appliance's version, then ask again; nothing was removed.",
            )
        return playbooks
