"""A real management daemon in a process of its own, with steps that a test steers through files.

    python -m tests.api.daemon ROOT

State, journal, audit log, socket and resume are the product's own. The steps are this module's: a
step counts its runs in `ROOT/<step>.runs` and ends when `ROOT/<step>.go` exists; `ROOT/<step>.fail`
makes it fail, `ROOT/<step>.bug` raises what nobody foresaw. `ROOT/roles` holds the caller's roles, and
`ROOT/account` then the name.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from appliance.adapters.acceptance import PassportFolder
from appliance.adapters.capture import CaptureOrderFile
from appliance.adapters.clock import SystemClock
from appliance.adapters.host.engine_board import EngineBoard
from appliance.adapters.plans import PlanFolder
from appliance.adapters.reports import SupportReportFolder
from appliance.adapters.sql import Database, SqlAuditLog, SqlJournal, SqlLicenseRegister
from appliance.adapters.sql_ledger import SqlKeyRegister, SqlTenancyRegister, SqlUsageReader, create_ledger, open_ledger
from appliance.config import Paths, read_sign_in
from appliance.domain.costs import price_book
from appliance.domain.egress import EgressReport
from appliance.domain.errors import PreflightBlocked
from appliance.domain.events import LogLine
from appliance.domain.health import HealthReport
from appliance.domain.node import NodeFacts
from appliance.domain.operation import Actor, StepName
from appliance.domain.posture import PostureFinding, Standing
from appliance.domain.preflight import Finding
from appliance.domain.status import Role
from appliance.entrypoints.management.api import create_app
from appliance.entrypoints.management.peers import Caller, Peer, identify
from appliance.entrypoints.management.serving import alone, serve
from appliance.resources import list_prices
from appliance.services.acceptance import Passports
from appliance.services.capture import ContentCapture
from appliance.services.compliance import Compliance
from appliance.services.engines import EngineControl
from appliance.services.keys import Keys
from appliance.services.management import Management, NodeIdentity
from appliance.services.operations import OperationPorts, Operations
from appliance.services.plan import Plans
from appliance.services.steps import StepContext
from appliance.services.tenancy import Tenancy


@dataclass(frozen=True)
class SteeredStep:
    root: Path
    name: StepName

    def run(self, context: StepContext) -> str:
        self._file("runs").open("a").write("x")
        context.emit(LogLine(text=f"{self.name} runs"))
        while not self._file("go").exists():
            context.stop_if_canceled()
            if self._file("fail").exists():
                raise PreflightBlocked(detail="the test said so", remedy="Remove the file.")
            if self._file("bug").exists():
                raise ZeroDivisionError("a bug")
            time.sleep(0.01)
        return f"{self.name} done"

    def _file(self, what: str) -> Path:
        return self.root / f"{self.name}.{what}"


POSTURE = PostureFinding(
    id="shm", title="Shared memory is noexec", references=("CIS 1.1.2.2.4",), measured="mount shm noexec",
    standing=Standing.NOT_MET, observed="it is mounted rw", reason="", remedy="Mount it with noexec.",
)  # fmt: skip
EGRESS = EgressReport(
    since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 11, 24, tzinfo=UTC), longest_gap_s=15.0,
    ours=0, others=0, attempts=(), missing=(),
)  # fmt: skip


class NothingToSee:
    """Routes of other parts, which this daemon has not."""

    def facts(self) -> NodeFacts:
        raise AssertionError("not here")

    def health(self) -> HealthReport:
        raise ZeroDivisionError("a bug in a route")

    def preflight(self, _medium: Path | None) -> tuple[Finding, ...]:
        return ()

    def posture(self) -> tuple[PostureFinding, ...]:
        return (POSTURE,)

    def egress(self) -> EgressReport:
        return EGRESS


def main(root: Path) -> None:
    paths = Paths(root=root)
    clock = SystemClock()
    nothing = NothingToSee()

    def who(peer: Peer) -> Caller:
        chosen = root / "roles"
        if not chosen.exists():
            return identify(peer)
        roles = frozenset(Role(word) for word in chosen.read_text().split())
        account = root / "account"
        name = account.read_text() if account.exists() else "j.doe"
        return Caller(actor=Actor(name=name, uid=peer.uid), roles=roles)

    with alone(paths.database.parent / "leewardd.lock"):
        database = Database.open(paths.database)
        journal, audit = SqlJournal(database), SqlAuditLog(database, clock)
        paths.ledger.parent.mkdir(exist_ok=True)
        create_ledger(paths.ledger, os.getuid(), os.getgid())
        ledger = open_ledger(paths.ledger)
        register = SqlLicenseRegister(database)
        reports = SupportReportFolder(paths.reports)
        operations = Operations(
            OperationPorts(journal=journal, audit=audit, clock=clock, reports=reports),
            steps={name: SteeredStep(root, name) for name in StepName},
            node="llm01",
        )
        management = Management(
            identity=NodeIdentity(node="llm01", appliance_version="0", simulated=("gpu",), slot=lambda: None),
            operations=operations,
            plans=Plans(store=PlanFolder(paths.data / "state/plans"), audit=audit, journal=journal),
            keys=Keys(register=SqlKeyRegister(ledger), audit=audit, clock=clock),
            tenancy=Tenancy(
                register=lambda: SqlTenancyRegister(ledger), keys=SqlKeyRegister(ledger), audit=audit, clock=clock
            ),
            engines=EngineControl(
                {"near": "/run/near.sock", "far": "10.1.0.12:8444"},
                board=EngineBoard(drained=root / "drained", standings=root / "standings.json"),
                audit=audit,
            ),
            passports=Passports(PassportFolder(paths.data / "state/passports"), slot=lambda: None),
            probe=nothing,
            preflight=nothing.preflight,
            health=nothing.health,
            posture=nothing.posture,
            egress=nothing.egress,
            audit=audit,
            licenses=register,
            compliance=Compliance(register=register, audit=audit, clock=clock),
            usage=lambda: SqlUsageReader(ledger),
            price_book=lambda: price_book(list_prices(), where="the list prices"),
            clock=clock,
            reports=reports,
            sign_in=partial(read_sign_in, paths.sign_in_file),
            capture=ContentCapture(orders=CaptureOrderFile(paths.capture_order), audit=audit, clock=clock),
        )
        serve(create_app(management, who), operations, paths.management_socket)
        ledger.dispose()
        database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
