"""What lies behind a row of the Health screen: every value that the report has, in words."""

from __future__ import annotations

from datetime import datetime

from textual.content import Content

from appliance.domain.health import EngineHealth, HealthReport
from appliance.domain.node import Gpu
from console.render import text

NAME_WIDTH = 24


def about(section: str, place: int, report: HealthReport) -> tuple[str, list[Content]]:
    """Return title and lines for the row at `place` of a section."""
    if section == "alerts":
        return "Alerts", _alerts(report)
    if section == "gpus" and report.gpus:
        # The first row is the table's header.
        gpu = report.gpus[max(0, place - 1)]
        return f"GPU {gpu.index}", _gpu(gpu)
    if section == "service" and report.engine is not None:
        return "Engine", _engine(report.engine)
    return "System", _system(report)


def _alerts(report: HealthReport) -> list[Content]:
    if not report.alerts:
        return [Content.assemble(text.OK, "  Nothing needs you.")]
    lines: list[Content] = []
    for alert in report.alerts:
        lines.append(Content.assemble(text.WORDS[alert.severity], "  ", (alert.title, "bold")))
        lines.append(Content(f"      {alert.advice}"))
        lines.append(text.muted(f"      {alert.code}, since {_moment(alert.since)}"))
        lines.append(Content(""))
    return lines


def _gpu(gpu: Gpu) -> list[Content]:
    major, minor = gpu.compute_capability
    return _table(
        ("Name", gpu.name),
        ("UUID", gpu.uuid),
        ("Serial number", gpu.serial or text.UNKNOWN),
        ("Compute capability", f"{major}.{minor}"),
        ("Temperature", f"{text.number(gpu.temperature_c)} C"),
        ("Power", f"{text.number(gpu.power_w)} W of {text.number(gpu.power_limit_w)} W"),
        ("Memory", f"{text.size(gpu.memory_used_bytes)} of {text.size(gpu.memory_total_bytes)}"),
        ("Busy", text.per_cent(gpu.utilization_percent)),
        ("ECC", _yes(gpu.ecc_enabled)),
        ("ECC errors corrected", text.number(gpu.ecc_corrected)),
        ("ECC errors uncorrected", text.number(gpu.ecc_uncorrected)),
        ("Row remap pending", _yes(gpu.row_remap_pending)),
        ("Row remap failed", _yes(gpu.row_remap_failed)),
        ("MIG", _yes(gpu.mig_enabled)),
        ("Persistence mode", _yes(gpu.persistence_enabled)),
        ("NVLink", f"{text.number(gpu.nvlinks_active)} of {text.number(gpu.nvlinks_total)} links"),
    )


def _engine(engine: EngineHealth) -> list[Content]:
    rate = engine.acceptance_rate
    return _table(
        ("Unit", engine.unit_state),
        ("Live", _yes(engine.live)),
        ("Ready", _yes(engine.ready)),
        ("vLLM", engine.version or text.UNKNOWN),
        ("Served model name", engine.served_model_name or text.UNKNOWN),
        ("Started", _moment(engine.started_at)),
        ("Requests running", text.number(engine.requests_running)),
        ("Requests waiting", text.number(engine.requests_waiting)),
        ("KV cache", text.per_cent(engine.kv_cache_usage_percent)),
        ("Prompt tokens", text.number(engine.prompt_tokens_total)),
        ("Generated tokens", text.number(engine.generation_tokens_total)),
        ("Drafts", text.number(engine.drafts_total)),
        ("Tokens drafted", text.number(engine.draft_tokens_total)),
        ("Tokens accepted", text.number(engine.accepted_tokens_total)),
        ("Acceptance rate", text.per_cent(None if rate is None else rate * 100)),
        ("Time to first token", _pair(engine.time_to_first_token_p50_s, engine.time_to_first_token_p95_s)),
        ("Between tokens", _pair(engine.inter_token_p50_s, engine.inter_token_p95_s)),
    )


def _system(report: HealthReport) -> list[Content]:
    system = report.system
    disks = [
        (f"Disk {disk.path}", f"{text.size(disk.free_bytes)} free of {text.size(disk.total_bytes)}")
        for disk in system.disks
    ]
    return _table(
        ("Release", report.release or text.NOT_APPLICABLE),
        ("Gateway", system.gateway_state),
        ("Certificate until", _moment(system.certificate_not_after)),
        *disks,
        ("Licence", system.license_state),
        ("", system.license_note),
        ("Audit entries", str(system.audit_entries)),
        ("Audit head", system.audit_head or text.NOT_APPLICABLE),
        ("Usage records", str(system.usage_records)),
        ("Usage unsettled", str(system.usage_unsettled)),
        ("Simulated", ", ".join(report.simulated) or "nothing"),
    )


def _table(*rows: tuple[str, str]) -> list[Content]:
    return [Content.assemble(text.muted(f"{name:<{NAME_WIDTH}}"), value) for name, value in rows]


def _yes(value: bool | None) -> str:  # noqa: FBT001  the value itself is shown
    return {True: "yes", False: "no", None: text.UNKNOWN}[value]


def _moment(at: datetime | None) -> str:
    return text.UNKNOWN if at is None else f"{at:%Y-%m-%d %H:%M:%SZ}"


def _pair(p50_s: float | None, p95_s: float | None) -> str:
    return f"p50 {text.milliseconds(p50_s)} ms   p95 {text.milliseconds(p95_s)} ms"
