"""Fixed days in the life of a node, for screens that must look the same each time.

    python -m tests.tui.recorded --scene warn --socket /tmp/x/management.sock

serves one of them until it is ended; pictures are made from that where no node is at hand.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.domain.events import (
    Event,
    FindingReported,
    LogLine,
    OperationFailed,
    OperationStarted,
    OperationSucceeded,
    Progressed,
    StepFinished,
    StepStarted,
    TaskFinished,
    TaskOutcome,
    TaskStarted,
    Unit,
)
from appliance.domain.health import (
    Alert,
    DiskHealth,
    EngineHealth,
    HealthReport,
    RecentEvent,
    Severity,
    SystemHealth,
    Verdict,
)
from appliance.domain.node import Gpu
from appliance.domain.operation import STEPS, OperationId, OperationKind, StepName
from appliance.domain.preflight import Finding, Outcome
from appliance.domain.status import NodeStatus, Role
from tests.support.fake_daemon import FakeDaemon
from tests.tui.records import keep_records

NOW = datetime(2026, 11, 23, 22, 14, 3, tzinfo=UTC)
NODE = "llm01"
OPERATION = OperationId("019ab3f2-7c41-7d10-8a55-3f1c9be01234")


def gpu(index: int, *, temperature_c: int | None = 62, busy: int | None = 76) -> Gpu:
    return Gpu(
        index=index, name="NVIDIA H200", uuid=f"GPU-{index:08x}-0000-4000-8000-000000000000", serial=f"165432{index}",
        memory_total_bytes=141_000_000_000, memory_used_bytes=(128 + index) * 1_000_000_000,
        compute_capability=(9, 0), temperature_c=temperature_c, power_w=585.0 - 20 * index, power_limit_w=700.0,
        utilization_percent=busy, ecc_enabled=True, ecc_uncorrected=0, ecc_corrected=0, mig_enabled=False,
        persistence_enabled=True, row_remap_pending=False, row_remap_failed=False, nvlinks_active=18, nvlinks_total=18,
    )  # fmt: skip


def engine() -> EngineHealth:
    return EngineHealth(
        unit_state="active", live=True, ready=True, version="0.16.2", served_model_name="mistral-medium-3.5",
        started_at=NOW - timedelta(days=12, hours=4, minutes=11), requests_running=24, requests_waiting=2,
        kv_cache_usage_percent=69.0, prompt_tokens_total=81_204_112, generation_tokens_total=9_120_400,
        draft_tokens_total=1_200_000, accepted_tokens_total=870_000, drafts_total=300_000,
        time_to_first_token_p50_s=0.196, time_to_first_token_p95_s=0.632, inter_token_p50_s=0.0137,
        inter_token_p95_s=0.022,
    )  # fmt: skip


def healthy(at: datetime = NOW) -> HealthReport:
    system = SystemHealth(
        disks=(
            DiskHealth(path="/var/lib/leeward", total_bytes=3_840_000_000_000, free_bytes=1_410_000_000_000),
            DiskHealth(path="/", total_bytes=480_000_000_000, free_bytes=316_000_000_000),
        ),
        certificate_not_after=datetime(2027, 2, 2, tzinfo=UTC), license_state="compliant",
        license_note="stated 2026-11-02 by J. Doe", audit_entries=1204, audit_head="9f2ce01b" * 8,
        usage_records=41_210, usage_unsettled=0, gateway_state="active",
    )  # fmt: skip
    events = (
        RecentEvent(
            at=NOW - timedelta(minutes=14), severity=Severity.OK, text="audit checkpoint written, 1204 entries"
        ),
        RecentEvent(at=NOW - timedelta(minutes=34), severity=Severity.OK, text="API key etl-batch made by j.doe"),
        RecentEvent(at=NOW - timedelta(hours=2), severity=Severity.OK, text="evidence exported to /media/evidence"),
    )
    return HealthReport(
        observed_at=at, node=NODE, verdict=Verdict.SERVING, release="26.11.0-e1", alerts=(),
        gpus=tuple(gpu(index) for index in range(4)), gpus_required=4, engine=engine(), system=system, events=events,
        simulated=(),
    )  # fmt: skip


def hot(at: datetime = NOW) -> HealthReport:
    """One GPU is hot; the GPUs are simulated."""
    alert = Alert(
        code="gpu-hot", severity=Severity.WARN, title="GPU 2 is hot: 84 °C, limit 87 °C",
        advice="Airflow or fan? Clear the inlet. If it reaches 87 °C the GPU slows down by itself.",
        since=NOW - timedelta(minutes=5),
    )  # fmt: skip
    gpus = (gpu(0, temperature_c=61), gpu(1, busy=96), gpu(2, temperature_c=84, busy=61), gpu(3, busy=49))
    first = RecentEvent(at=NOW - timedelta(minutes=5), severity=Severity.WARN, text="GPU 2 above 83 °C")
    before = healthy(at)
    return replace(before, alerts=(alert,), gpus=gpus, events=(first, *before.events), simulated=("gpus",))


def unknown(at: datetime = NOW) -> HealthReport:
    """Nothing that may be unknown is known."""
    mute = replace(
        gpu(0), temperature_c=None, power_w=None, power_limit_w=None, utilization_percent=None, ecc_corrected=None,
        ecc_uncorrected=None, nvlinks_active=None, nvlinks_total=None,
    )  # fmt: skip
    blind = replace(
        engine(), ready=None, version=None, started_at=None, requests_running=None, requests_waiting=None,
        kv_cache_usage_percent=None, generation_tokens_total=None, drafts_total=None, draft_tokens_total=None,
        time_to_first_token_p50_s=None, time_to_first_token_p95_s=None, inter_token_p50_s=None, inter_token_p95_s=None,
    )  # fmt: skip
    report = healthy(at)
    system = replace(report.system, certificate_not_after=None)
    return replace(report, gpus=(mute,), gpus_required=None, engine=blind, system=system)


def empty(at: datetime = NOW) -> HealthReport:
    """A node before its first release."""
    report = healthy(at)
    system = replace(
        report.system, license_state="no-terms", license_note="no release is installed", gateway_state="inactive"
    )
    return replace(report, verdict=Verdict.EMPTY, release=None, engine=None, gpus_required=None, system=system)


def status(*, slot: str | None = "26.11.0-e1", simulated: tuple[str, ...] = ()) -> NodeStatus:
    return NodeStatus(
        node=NODE, appliance_version="26.11.0", slot=slot, unfinished=None, simulated=simulated, caller="j.doe",
        roles=(Role.ADMIN,),
    )  # fmt: skip


FINDINGS = (
    Finding(check="os", outcome=Outcome.PASS, blocking=False, observed="Debian 12 (bookworm)",
            required="Debian 12", remedy="Install Debian 12."),
    Finding(check="gpus", outcome=Outcome.PASS, blocking=False, observed="4 x NVIDIA H200, 141 GB each",
            required="4 GPUs of 80 GB", remedy="Reseat the GPU that is missing."),
    Finding(check="disk", outcome=Outcome.PASS, blocking=False, observed="1.4 TB free",
            required="390 GB", remedy="Free space below /var/lib."),
    Finding(check="clock", outcome=Outcome.WARN, blocking=False, observed="not synchronized",
            required="a time source", remedy="Set the clock by hand and compare it with a watch."),
)  # fmt: skip

BLOCKED = (
    *FINDINGS[:1],
    Finding(check="gpus", outcome=Outcome.FAIL, blocking=True, observed="3 x NVIDIA H200",
            required="4 GPUs of 80 GB", remedy="Reseat the GPU that is missing."),
)  # fmt: skip

TASKS = (
    ("service_user", "Service users are present", TaskOutcome.OK, 1.0),
    ("engine_environment", "The engine's private environment is installed", TaskOutcome.CHANGED, 295.0),
    ("engine_unit", "The engine's unit is in place", TaskOutcome.CHANGED, 3.0),
    ("gateway", "The gateway's certificate is present", TaskOutcome.SKIPPED, 0.4),
)


def installing() -> list[tuple[timedelta, Event]]:
    """An install in the middle of importing 144 GB."""
    kind = OperationKind.INSTALL
    events: list[tuple[timedelta, Event]] = [
        (timedelta(0), OperationStarted(kind=kind, actor="j.doe", node=NODE, steps=STEPS[kind])),
        (timedelta(0), StepStarted(step=StepName.PREFLIGHT)),
    ]
    events += [
        (timedelta(seconds=2), FindingReported(check=f.check, outcome=f.outcome.value, blocking=f.blocking,
                                               observed=f.observed, required=f.required, remedy=f.remedy))
        for f in FINDINGS
    ]  # fmt: skip
    events += [
        (timedelta(seconds=41), StepFinished(step=StepName.PREFLIGHT, summary="4 checks, 1 warning")),
        (timedelta(seconds=41), StepStarted(step=StepName.IMPORT)),
        (timedelta(seconds=42), LogLine(text="22:02:12Z metadata: 2 of 3 keys signed root 1, targets 1")),
    ]
    for part in range(1, 5):
        done = part * 22_175_000_000
        progress = Progressed(step=StepName.IMPORT, label="weights/target/consolidated-00041-of-00063.safetensors",
                              done=done, total=144_000_000_000, unit=Unit.BYTES)  # fmt: skip
        at = timedelta(seconds=42 + part * 117)
        events += [(at, progress), (at, LogLine(text=f"part {part:04} of 0577 verified, sha256 ok"))]
    return events


def provisioning() -> list[tuple[timedelta, Event]]:
    """The same install, later, among Ansible tasks."""
    events = installing()
    end = timedelta(minutes=11)
    events += [
        (end, StepFinished(step=StepName.IMPORT, summary="144.0 GB in 577 parts, all verified")),
        (end, StepStarted(step=StepName.LICENSE)),
        (end, StepFinished(step=StepName.LICENSE, summary="terms and statement recorded")),
        (end, StepStarted(step=StepName.PROVISION)),
    ]
    for role, task, outcome, duration_s in TASKS:
        events.append((end, TaskStarted(role=role, task=task)))
        events.append((end, TaskFinished(role=role, task=task, outcome=outcome, duration_s=duration_s)))
        events.append((end, LogLine(text=f"TASK {role} : {task}: {outcome.value}")))
    events.append((end, TaskStarted(role="gateway", task="The gateway answers on port 8443")))
    return events


def failed() -> list[tuple[timedelta, Event]]:
    """An install that stopped at a medium that could not be read."""
    at = timedelta(minutes=11, seconds=43)
    return [
        *installing(),
        (at, LogLine(text="blobs/3f1c.p214: Input/output error")),
        (
            at,
            OperationFailed(
                step=StepName.IMPORT, code="media-missing", title="The medium could not be read",
                detail="/media/leeward/blobs/3f1c.p214 gave an input/output error at 88.1 GB of 144.0 GB.",
                remedy="Check the cable, or copy the bundle to another medium, then start again.",
            ),
        ),
    ]  # fmt: skip


def succeeded() -> list[tuple[timedelta, Event]]:
    """The install at its good end."""
    at = timedelta(minutes=12)
    events = provisioning()
    for name in (StepName.REBOOT, StepName.START, StepName.SMOKE_TEST):
        events += [(at, StepStarted(step=name)), (at, StepFinished(step=name, summary="known answer given"))]
    finished = StepFinished(step=StepName.PROVISION, summary="61 tasks, 40 changed")
    place = next(i for i, (_, event) in enumerate(events) if event == StepStarted(step=StepName.REBOOT))
    events.insert(place, (at, finished))
    return [*events, (at, OperationSucceeded(summary="26.11.0-e1 serves; the known answer came back"))]


SCENES = ("ok", "warn", "unknown", "empty", "importing", "provisioning", "failed", "succeeded")


async def stage(scene: str, socket: Path, *, live: bool = False) -> FakeDaemon:
    """Return a daemon, not yet started, in one scene; a `live` one goes with the clock."""
    shift = datetime.now(UTC) - NOW if live else timedelta(0)

    def now() -> datetime:
        return datetime.now(UTC) if live else NOW

    reports = {"warn": hot, "unknown": unknown, "empty": empty, "importing": empty, "failed": empty}
    report = reports.get(scene, healthy)(now())
    slot = None if scene in ("empty", "importing", "failed", "provisioning") else "26.11.0-e1"
    daemon = FakeDaemon(socket=socket, status=status(slot=slot, simulated=report.simulated), health=report, now=now,
                        findings=FINDINGS)  # fmt: skip
    keep_records(daemon, now())
    journals = {"importing": installing, "provisioning": provisioning, "failed": failed, "succeeded": succeeded}
    if scene in journals:
        began = NOW + shift - timedelta(minutes=12)
        for passed, event in journals[scene]():
            await daemon.happen(OPERATION, event, at=began + passed)
    return daemon


async def _serve(scene: str, socket: Path) -> None:
    async with await stage(scene, socket, live=True) as daemon:
        for turn in range(1_000_000):
            daemon.health = _moved(daemon.health, turn)
            await asyncio.sleep(1)


def _moved(report: HealthReport, turn: int) -> HealthReport:
    """Let the figures of a live scene go up and down."""
    gpus = tuple(
        replace(g, utilization_percent=round(72 + 20 * math.sin((turn + 9 * g.index) / 6))) for g in report.gpus
    )
    moved = report.engine
    if moved is not None and moved.generation_tokens_total is not None:
        more = round(1500 + 320 * math.sin(turn / 8))
        waiting = max(0, round(4 * math.sin(turn / 7)))
        moved = replace(moved, generation_tokens_total=moved.generation_tokens_total + more, requests_waiting=waiting)
    return replace(report, observed_at=datetime.now(UTC), gpus=gpus, engine=moved)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", choices=SCENES, default="ok")
    parser.add_argument("--socket", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(_serve(options.scene, options.socket))
