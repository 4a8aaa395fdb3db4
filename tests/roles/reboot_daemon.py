"""A management daemon of two steps, for a lab node: a play that asks for a restart, and the real step `reboot`.

Journal, operations, systemd and the boot's id are the real ones; in the play's place stands what its
role leaves behind: a file in /run/leeward-restart, written while /root/needs-restart is there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from appliance.adapters.clock import SystemClock
from appliance.adapters.host.boot import BootFiles
from appliance.adapters.host.systemd import SystemdServices
from appliance.adapters.sql import Database, SqlAuditLog, SqlJournal
from appliance.domain.operation import Actor, OperationKind, OperationRequest, StepName
from appliance.services.operations import OperationPorts, Operations
from appliance.services.steps import Step, StepContext
from appliance.services.steps.provision import restart_needed
from appliance.services.steps.reboot import RebootStep

STATE = Path("/var/lib/leeward/state")
REASONS = Path("/run/leeward-restart")
WISH = Path("/root/needs-restart")


class Play:
    """What `provision` is to the step after it; notes each boot that it ran in."""

    def __init__(self, boot: BootFiles) -> None:
        self._boot = boot

    def run(self, context: StepContext) -> str:
        with (STATE / "plays").open("a") as plays:
            plays.write(f"{self._boot.boot_id()}\n")
        if WISH.exists():
            REASONS.mkdir(exist_ok=True)
            (REASONS / "nouveau").write_text(json.dumps({"reason": "a test asks for it", "at_console": False}))
            if WISH.read_text().strip() != "forever":
                WISH.unlink()
        os.sync()  # what a test counts on must outlive a power cut, as the journal does
        if reasons := self._boot.reasons():
            context.emit(restart_needed(self._boot.boot_id(), reasons))
        return "played"


class Nothing:
    def run(self, context: StepContext) -> str:
        del context
        return "nothing"

    def write(self, error: BaseException, at: object) -> str:
        return f"{error!r} {at}"


def main() -> None:
    """Go on with what is unfinished, or start a provision where `--start` asks for it; run until SIGTERM."""
    STATE.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    database = Database.open(STATE / "leeward.db")
    boot, journal = BootFiles(REASONS), SqlJournal(database)
    play = Play(boot)
    steps: dict[StepName, Step] = dict.fromkeys(StepName, Nothing())
    steps |= {
        StepName.PROVISION: play,
        StepName.REBOOT: RebootStep(boot=boot, journal=journal, services=SystemdServices(), provision=play),
    }
    clock = SystemClock()
    operations = Operations(
        OperationPorts(journal=journal, audit=SqlAuditLog(database, clock), clock=clock, reports=Nothing()),
        steps=steps,
        node="lab",
    )
    operations.resume()
    if (STATE / "start").exists():
        (STATE / "start").unlink()
        operations.start(OperationRequest(kind=OperationKind.PROVISION, parameters={}), Actor(name="lab"))
    while not stop.wait(0.2):
        pass
    operations.begin_stop()
    operations.join(20)
    database.close()


def show() -> None:
    """Print every operation's view as JSON."""
    database = Database.open(STATE / "leeward.db")
    ports = OperationPorts(
        journal=SqlJournal(database), audit=SqlAuditLog(database, SystemClock()), clock=SystemClock(), reports=Nothing()
    )
    for view in Operations(ports, steps={}, node="lab").views():
        error = view.error.code if view.error else ""
        steps = {str(step.name): step.summary for step in view.steps}
        print(json.dumps({"state": str(view.state), "error": error, "steps": steps, "resumes": view.resumes}))  # noqa: T201  read by the test
    database.close()


if __name__ == "__main__":
    show() if "--show" in sys.argv else main()
