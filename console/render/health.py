"""The Health screen as lines: each function takes values and a width and returns styled text.

Hierarchy: verdict (strip), what needs a person (alerts), hardware, service, house-keeping, history.
Below `frame.WIDE` columns notes shrink and bars go; at 80 columns every line still fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from textual.content import Content

from appliance.domain.errors import DaemonUnreachable
from appliance.domain.health import Alert, DiskHealth, EngineHealth, HealthReport, RecentEvent, Severity, Verdict
from appliance.domain.node import Gpu
from console.render import text
from console.render.frame import Frame
from console.watch import History, Trouble, Watch

NAME_WIDTH = 11
VALUE_WIDTH = 25


def strip(watch: Watch, node: str, frame: Frame) -> Content:
    """Draw the top line: who, the verdict, what is simulated; release, licence, time."""
    report = watch.report
    left = [Content(f"{node}   "), Content(verdict(watch, stale=frame.stale))]
    if report is not None and not frame.stale and report.alerts:
        left.append(Content(f"   {count_alerts(report.alerts)}"))
    if watch.paused:
        left.append(Content.assemble("   ", (" PAUSED: p goes on ", "bold reverse")))
    if report is not None and report.simulated:
        left.extend((Content("   "), Content.styled(f" SIMULATED: {', '.join(report.simulated)} ", "bold reverse")))
    right = text.clock(frame.now)
    if frame.wide and report is not None:
        right = f"release {report.release or text.NOT_APPLICABLE}   licence {report.system.license_state}   {right}"
    return text.ends(Content.assemble(*left), Content(right), frame.width)


def verdict(watch: Watch, *, stale: bool) -> str:
    """Say the one word for the node, or why there is none."""
    if watch.trouble is not None:
        return "DAEMON UNREACHABLE" if watch.trouble.code == DaemonUnreachable.code else "NOTHING CAN BE READ"
    if watch.report is None:
        return "READING..."
    if stale:
        return "NO FRESH DATA"
    words = {Verdict.EMPTY: "NO RELEASE INSTALLED"}
    return words.get(watch.report.verdict, watch.report.verdict.value.upper())


def harm(trouble: Trouble) -> str:
    """Say what a failed look means for the node."""
    if trouble.code == DaemonUnreachable.code:
        return "Unknown from here. Engine and gateway run without the daemon."
    return "None to the node; only this console cannot show it."


def is_alarming(watch: Watch) -> bool:
    """Say whether the strip turns red."""
    if watch.trouble is not None:
        return True
    return watch.report is not None and watch.report.verdict is Verdict.DOWN


def count_alerts(alerts: Iterable[Alert]) -> str:
    """Say how many alerts there are, failures first."""
    severities = [alert.severity for alert in alerts]
    failures, warnings = severities.count(Severity.FAIL), severities.count(Severity.WARN)
    parts = []
    if failures:
        parts.append(f"{failures} failure{'s' if failures > 1 else ''}")
    if warnings:
        parts.append(f"{warnings} warning{'s' if warnings > 1 else ''}")
    return ", ".join(parts)


def banner(watch: Watch, frame: Frame) -> list[Content]:
    """Draw what stands above everything else: lost contact, old data, or that all is well."""
    trouble, report = watch.trouble, watch.report
    if trouble is not None:
        gone_s = int((frame.now - trouble.since).total_seconds())
        retry_s = max(0, round((trouble.retry_at - frame.now).total_seconds()))
        return [
            Content.assemble(
                text.FAIL,
                "  ",
                (f"{trouble.title} for {gone_s} s.", "bold"),
                f" Retry in {retry_s} s. ",
                text.muted("r: now"),
            )
        ]
    if report is None:
        return [Content.assemble(text.OFF, "  reading...")]
    if frame.stale:
        age_s = int((frame.now - report.observed_at).total_seconds())
        last = text.clock(report.observed_at)
        return [
            Content.assemble(
                text.WARN,
                "  ",
                (f"No new data for {age_s} s", "bold"),
                f" (last {last}). Values below are old and greyed.",
            )
        ]
    if not report.alerts:
        return [Content.assemble(text.OK, "  No alerts. Nothing needs you.")]
    return []


def alert_lines(alert: Alert, frame: Frame) -> list[Content]:
    """Draw one alert; where there is room, its advice stands below."""
    since = f" (since {alert.since:%H:%MZ})" if alert.since else ""
    first = Content.assemble(
        text.WORDS[alert.severity], "  ", (text.said(alert.title, frame.capabilities), "bold"), text.muted(since)
    )
    if not frame.wide:
        return [first]
    return [first, text.muted(f"      {text.said(alert.advice, frame.capabilities)}")]


def more_alerts(report: HealthReport, shown: int) -> list[Content]:
    """Say how many alerts did not fit."""
    hidden = len(report.alerts) - shown
    return [text.muted(f"      and {hidden} more; Enter shows all")] if hidden > 0 else []


def gpu_rows(report: HealthReport, history: History, frame: Frame) -> list[Content]:
    """Draw the table of GPUs; without any, say so in words."""
    if not report.gpus:
        return [Content.assemble(text.OFF, "  No GPU was seen.")]
    rows = [gpu_row(gpu, gpu_severity(gpu, report.alerts), history, frame) for gpu in report.gpus]
    return [gpu_header(frame), *rows]


def gpu_header(frame: Frame) -> Content:
    """Draw the header of the GPU table; the sparkline's title says how long its past is."""
    if frame.wide:
        past = f"last {30 * frame.capabilities.refresh_s:.0f} s"
        return text.muted(
            f"#  State  Temp    Power                 Memory                Busy  {past:<32}ECC    NVLink"
        )
    past = f"last {12 * frame.capabilities.refresh_s:.0f} s"
    return text.muted(f"# State Temp   Power        Memory      Busy  {past:<12}  ECC    Link")


def gpu_row(gpu: Gpu, severity: Severity, history: History, frame: Frame) -> Content:
    """Draw one GPU. What NVML did not say is `??`."""
    capabilities, glyphs = frame.capabilities, frame.capabilities.glyphs
    unreadable = gpu.temperature_c is None and gpu.utilization_percent is None
    word = text.STALE if unreadable and severity is Severity.OK else text.WORDS[severity]
    heat = f"{text.number(gpu.temperature_c)} {glyphs.degree}"
    power = f"{text.number(gpu.power_w):>3}/{text.number(gpu.power_limit_w)} W"
    memory = f"{text.gigabytes(gpu.memory_used_bytes):>3}/{text.gigabytes(gpu.memory_total_bytes)} GB"
    busy = f"{text.per_cent(gpu.utilization_percent):>5}"
    ecc = f"{_ecc(gpu.ecc_corrected)}/{_ecc(gpu.ecc_uncorrected)}"
    links = _links(gpu)
    past = history.busy(gpu.index)
    if frame.wide:
        drawn_power = text.bar(_share(gpu.power_w, gpu.power_limit_w), 9, capabilities)
        drawn_memory = text.bar(_share(gpu.memory_used_bytes, gpu.memory_total_bytes), 9, capabilities)
        rest = Content.assemble(
            f"   {text.fit(heat, 8)}{text.fit(power, 10)} ", drawn_power, f"  {text.fit(memory, 10)} ", drawn_memory,
            f" {busy}  ", text.spark(past, 30, capabilities, highest=100), f"  {text.fit(ecc, 7)}{links}",
        )  # fmt: skip
        return _state(f"{gpu.index}  ", word, rest, frame)
    rest = Content.assemble(
        f"  {text.fit(heat, 5)}  {text.fit(power, 9)}  {text.fit(memory, 12)} {busy} ",
        text.spark(past, 12, capabilities, highest=100), f"  {text.fit(ecc, 6)} {links}",
    )  # fmt: skip
    return _state(f"{gpu.index} ", word, rest, frame)


def gpu_severity(gpu: Gpu, alerts: Iterable[Alert]) -> Severity:
    """Return the worst severity of the alerts that name this GPU."""
    named = re.compile(rf"\bGPU {gpu.index}\b")
    return _worst(alert.severity for alert in alerts if named.search(alert.title))


def gpus_note(report: HealthReport) -> str:
    """Say how many GPUs there are of how many that the release needs."""
    required = text.UNKNOWN if report.gpus_required is None else str(report.gpus_required)
    count = f"{len(report.gpus)} of {required} present" if report.gpus_required != 0 else "none needed"
    simulated = "   SIMULATED" if any("gpu" in name for name in report.simulated) else ""
    return f"{count}{simulated}"


def service_rows(report: HealthReport, history: History, frame: Frame) -> list[Content]:
    """Draw what the engine's own metrics say; without an engine, say so in words."""
    engine = report.engine
    if engine is None:
        why = "No release is installed." if report.verdict is Verdict.EMPTY else "The engine's state could not be read."
        return [_state("", text.OFF, Content(f"  {why}"), frame)]
    if not engine.live:
        note = f"  The engine is not running; its unit is {engine.unit_state}."
        return [_state("", _word(report, "engine", known=False), Content(note), frame)]
    first, each = engine.time_to_first_token_p50_s, engine.inter_token_p50_s
    figures = [
        _Figure(name="Engine", code="engine", value=Content(_readiness(engine)), known=engine.ready is not None,
                note=_build(engine, frame.now)),
        _Figure(name="Requests", code="requests", value=_requests(engine), known=engine.requests_running is not None,
                past=history.waiting(), note="drawn: waiting"),
        _Figure(name="KV cache", code="kv-cache", value=_kv_cache(engine, frame), note="of the room for context",
                known=engine.kv_cache_usage_percent is not None),
        _Figure(name="First token", code="first-token", value=_pair(first, engine.time_to_first_token_p95_s),
                note="TTFT", known=first is not None),
        _Figure(name="Each token", code="each-token", value=_pair(each, engine.inter_token_p95_s), note="ITL",
                known=each is not None),
        _speed(engine, history),
    ]  # fmt: skip
    return [_service(report, figure, frame) for figure in figures]


def system_rows(report: HealthReport, frame: Frame) -> list[Content]:
    """Draw the house-keeping: gateway, disks, licence, records."""
    system = report.system
    certificate = "certificate unknown"
    if system.certificate_not_after is not None:
        left_days = (system.certificate_not_after - frame.now).days
        certificate = f"certificate until {system.certificate_not_after:%Y-%m-%d}, {left_days} d"
    first, *others = [_disk(disk) for disk in system.disks] or [(text.UNKNOWN, "")]
    paths = "; ".join((first[1], *(f"{path}: {free}" for free, path in others)))
    head = f", head {system.audit_head[:8] or text.NOT_APPLICABLE}" if frame.wide else ""
    ledger = f"ledger {system.usage_records}, {system.usage_unsettled} unsettled"
    rows = [
        ("Gateway", ("gateway",), system.gateway_state, certificate, system.gateway_state == "active"),
        ("Disk", ("disk",), first[0], paths, bool(system.disks)),
        ("Licence", ("license",), system.license_state, system.license_note, True),
        ("Records", ("audit", "usage"), f"{system.audit_entries} audit entries", f"{ledger}{head}", True),
    ]
    return [
        _line(_word(report, *codes, known=known), name, Content(value), note, frame)
        for name, codes, value, note, known in rows
    ]


def event_line(event: RecentEvent, frame: Frame) -> Content:
    """Draw one recent event, quiet unless it was bad."""
    style = {Severity.OK: "", Severity.WARN: "$warning", Severity.FAIL: "bold $error"}[event.severity]
    word = (f"{event.severity.value:<5}", style)
    return Content.assemble(
        text.muted(f"{text.clock(event.at)} "), word, f" {text.said(event.text, frame.capabilities)}"
    ).truncate(frame.width, ellipsis=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    """One row of the service table."""

    name: str
    code: str
    value: Content
    note: str
    known: bool
    past: Sequence[float | None] | None = None


def _service(report: HealthReport, figure: _Figure, frame: Frame) -> Content:
    word = _word(report, figure.code, known=figure.known)
    if not frame.wide:
        return _line(word, figure.name, figure.value, figure.note, frame)
    drawn = Content(" " * 26) if figure.past is None else text.spark(figure.past, 26, frame.capabilities)
    value = text.pad(figure.value, VALUE_WIDTH)
    rest = Content.assemble(f"  {figure.name:{NAME_WIDTH}} ", value, " ", drawn, "  ", text.muted(figure.note))
    return _state(" ", word, rest, frame)


def _speed(engine: EngineHealth, history: History) -> _Figure:
    rates = history.speed()
    newest = rates[-1] if rates else None
    note = "generated"
    if engine.acceptance_rate is not None:
        note = f"EAGLE: {engine.acceptance_rate * 100:.0f} % of drafted tokens accepted"
        if engine.drafts_total and engine.accepted_tokens_total is not None:
            drafted = (engine.draft_tokens_total or 0) / engine.drafts_total
            note = f"EAGLE accepts {engine.accepted_tokens_total / engine.drafts_total:.1f} of {drafted:.1f} drafted"
    value = Content(f"{text.number(newest)} tok/s")
    return _Figure(name="Speed", code="speed", value=value, note=note, past=rates, known=newest is not None)


def _line(word: Content, name: str, value: Content, note: str, frame: Frame) -> Content:
    lead = " " if frame.wide else ""
    rest = Content.assemble(f"  {name:{NAME_WIDTH}} ", text.pad(value, VALUE_WIDTH), "  ", text.muted(note))
    return _state(lead, word, rest, frame).truncate(frame.width, ellipsis=True)


def _state(lead: str, word: Content, rest: Content, frame: Frame) -> Content:
    """Join a line around its word; on old data the word is unknown and the values are grey."""
    if frame.stale:
        return Content.assemble(text.muted(lead), text.STALE, text.muted(rest.plain))
    return Content.assemble(lead, word, rest)


def _word(report: HealthReport, *codes: str, known: bool) -> Content:
    """Say the word of a row: alert codes begin with what they are about (appliance.services.alerts)."""
    severity = _worst(alert.severity for alert in report.alerts if alert.code.startswith(codes))
    return text.STALE if severity is Severity.OK and not known else text.WORDS[severity]


def _worst(severities: Iterable[Severity]) -> Severity:
    order = list(Severity)
    return max(severities, key=order.index, default=Severity.OK)


def _requests(engine: EngineHealth) -> Content:
    return Content(f"{text.number(engine.requests_running)} running, {text.number(engine.requests_waiting)} waiting")


def _kv_cache(engine: EngineHealth, frame: Frame) -> Content:
    used = engine.kv_cache_usage_percent
    share = None if used is None else used / 100
    return Content.assemble(f"{text.per_cent(used):>5} ", text.bar(share, 18, frame.capabilities))


def _pair(p50_s: float | None, p95_s: float | None) -> Content:
    first = f"p50 {text.milliseconds(p50_s)} ms"
    return Content(f"{first:<13} p95 {text.milliseconds(p95_s)} ms")


def _disk(disk: DiskHealth) -> tuple[str, str]:
    used = 100 - round(100 * disk.free_bytes / disk.total_bytes) if disk.total_bytes else None
    return f"{text.size(disk.free_bytes)} free, {text.per_cent(used)} used", disk.path


def _readiness(engine: EngineHealth) -> str:
    return {True: "ready", False: "not ready", None: f"readiness {text.UNKNOWN}"}[engine.ready]


def _build(engine: EngineHealth, now: datetime) -> str:
    up = text.days((now - engine.started_at).total_seconds()) if engine.started_at else text.UNKNOWN
    return f"vLLM {engine.version or text.UNKNOWN}, up {up}"


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _ecc(count: int | None) -> str:
    return text.UNKNOWN if count is None else str(count)


def _links(gpu: Gpu) -> str:
    if gpu.nvlinks_total == 0:
        return text.NOT_APPLICABLE
    return f"{text.number(gpu.nvlinks_active)}/{text.number(gpu.nvlinks_total)}"
