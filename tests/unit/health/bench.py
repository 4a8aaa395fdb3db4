"""A node that serves well, for tests to spoil."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from appliance.domain.errors import LedgerUnavailable
from appliance.domain.health import HealthReport
from appliance.domain.license import LicenseTerms, RevenueBand, Statement
from appliance.domain.node import Gpu
from appliance.domain.xid import XidSeen, XidTable
from appliance.resources import xid_table
from appliance.services.health import Health, HealthPorts
from appliance.services.readiness import ReadinessProbe
from bundles.release import Release
from tests.nodes import node
from tests.unit.checks.releases import CUDA
from tests.unit.exports.twins import TwinAuditLog, TwinClock, TwinLicenses, TwinProbe, TwinUsage, usage_record
from tests.unit.health.twins import NOW, TwinEngine, TwinServices, Watch

TERMS = LicenseTerms(
    spdx_id="LicenseRef-Mistral-Modified-MIT",
    applies_to="weights/target/",
    text_sha256="0" * 64,
    threshold_usd_monthly=20_000_000,
    release="26.11.0-e1",
)


class Bench:
    """A node that serves well; each test spoils one thing."""

    def __init__(self) -> None:
        self.engine = TwinEngine()
        self.services = TwinServices()
        self.watch = Watch()
        self.release: Release | None = CUDA
        self.probe = TwinProbe(node("four-h200"))
        self.usage = TwinUsage([usage_record(1)])
        self.ledger_is_missing = False
        self.audit = TwinAuditLog()
        self.licenses = TwinLicenses()
        self.licenses.add_terms(TERMS)
        self.state_for("2026-11")
        self.xids: tuple[XidSeen, ...] | None = ()
        self.certificate: datetime | None = NOW + timedelta(days=300)
        self.readiness = ReadinessProbe(
            engine=self.engine,
            services=self.services,
            known_answer=lambda: self.release.engine.known_answer if self.release and self.release.engine else None,
            monotonic=self.watch,
        )
        self.health = Health(
            HealthPorts(
                probe=self.probe,
                engine=self.engine,
                services=self.services,
                readiness=self.readiness,
                usage=self.ledger,
                audit=self.audit,
                licenses=self.licenses,
                clock=TwinClock(NOW),
                release=lambda: self.release,
                certificate=lambda: self.certificate,
                xids=lambda: self.xids,
                xid_table=XidTable.from_toml(xid_table()),
            ),
            node="llm01",
            monotonic=self.watch,
        )
        self.readiness.ask()

    def state_for(self, month: str, band: RevenueBand = RevenueBand.UNDER_HALF) -> None:
        statement = Statement(use_month=month, band=band, legal_entity="ACME", signatory="A. Ada", role="CFO")
        self.licenses.add_attestation(statement.made(at=NOW, recorded_by="ada"))

    def know_xids(self, seen: tuple[XidSeen, ...] | None) -> None:
        self.xids = seen
        self.watch.seconds += 2.0  # the last report is too old to be shown again

    def ledger(self) -> TwinUsage:
        if self.ledger_is_missing:
            raise LedgerUnavailable(detail="There is no ledger.", remedy="Provision.")
        return self.usage

    def see(self, **changes: Any) -> None:  # noqa: ANN401  any facts
        self.probe.seen = replace(self.probe.seen, **changes)

    def see_gpu(self, index: int, **changes: Any) -> None:  # noqa: ANN401  any of a GPU's values
        gpus: list[Gpu] = list(self.probe.seen.gpus)
        gpus[index] = replace(gpus[index], **changes)
        self.see(gpus=tuple(gpus))

    def report(self) -> HealthReport:
        self.watch.seconds += 1.01
        return self.health.report()


def codes(report: HealthReport) -> set[str]:
    return {alert.code for alert in report.alerts}
