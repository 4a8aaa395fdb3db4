"""The node in plain text, once: for dumb terminals, screen readers, pipes and tickets.

Same words as the screens (`ok WARN FAIL ?? --`), no control codes, no Textual.
"""

from __future__ import annotations

from datetime import datetime

from appliance.domain.health import HealthReport, Severity
from appliance.domain.node import Gpu
from appliance.domain.status import NodeStatus

WORDS = {Severity.OK: "ok  ", Severity.WARN: "WARN", Severity.FAIL: "FAIL"}


def summary(status: NodeStatus, report: HealthReport) -> str:
    """Return what the first screen would show, one fact a line."""
    lines = [
        f"node       {status.node}",
        f"verdict    {report.verdict.value.upper()}",
        f"release    {report.release or '--'}",
        f"observed   {_moment(report.observed_at)}",
    ]
    simulated = sorted({*status.simulated, *report.simulated})
    if simulated:
        lines.append(f"SIMULATED  {', '.join(simulated)}")
    if status.unfinished is not None:
        step = status.unfinished.current_step
        lines.append(f"operation  {status.unfinished.kind.value}: {step.title if step else '--'}")
    for alert in report.alerts:
        lines.append(f"{WORDS[alert.severity]}       {alert.title}")
        lines.append(f"           {alert.advice}")
    lines.extend(_gpu(gpu) for gpu in report.gpus)
    lines.extend(_engine(report))
    lines.extend(_system(report))
    return "\n".join(lines) + "\n"


def _gpu(gpu: Gpu) -> str:
    power = f"{_number(gpu.power_w)}/{_number(gpu.power_limit_w)} W"
    memory = f"{gpu.memory_used_bytes / 1e9:.0f}/{gpu.memory_total_bytes / 1e9:.0f} GB"
    ecc = f"ECC {_number(gpu.ecc_corrected)}/{_number(gpu.ecc_uncorrected)}"
    heat, busy = f"{_number(gpu.temperature_c)} C", f"{_number(gpu.utilization_percent)} % busy"
    return f"gpu {gpu.index}      {heat}, {power}, {memory}, {busy}, {ecc}"


def _engine(report: HealthReport) -> list[str]:
    engine = report.engine
    if engine is None:
        return ["engine     --"]
    ready = {True: "ready", False: "not ready", None: "readiness ??"}[engine.ready]
    return [
        f"engine     {engine.unit_state}, {ready}, vLLM {engine.version or '??'}",
        f"requests   {_number(engine.requests_running)} running, {_number(engine.requests_waiting)} waiting",
        f"kv cache   {_number(engine.kv_cache_usage_percent)} %",
    ]


def _system(report: HealthReport) -> list[str]:
    system = report.system
    disks = [
        f"disk       {disk.path}: {disk.free_bytes / 1e9:.0f} of {disk.total_bytes / 1e9:.0f} GB free"
        for disk in system.disks
    ]
    return [
        f"gateway    {system.gateway_state}, certificate until {_moment(system.certificate_not_after)}",
        *disks,
        f"licence    {system.license_state}: {system.license_note}",
        f"records    {system.audit_entries} audit entries",
        f"usage      {system.usage_records} records, {system.usage_unsettled} unsettled",
    ]


def _number(value: float | None) -> str:
    return "??" if value is None else f"{value:.0f}"


def _moment(at: datetime | None) -> str:
    return "??" if at is None else f"{at:%Y-%m-%d %H:%M:%SZ}"
