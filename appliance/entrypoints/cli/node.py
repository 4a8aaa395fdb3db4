"""Verbs that look at the node."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from appliance.domain.errors import DaemonUnreachable, PreflightBlocked
from appliance.domain.health import HealthReport, Verdict
from appliance.domain.node import DiskTiming
from appliance.domain.preflight import Finding, Outcome
from appliance.entrypoints.cli.calling import as_json, at, call, say, table
from appliance.entrypoints.cli.judging import judging, waivers

NODE_NEEDS_A_PERSON = 3


@click.command()
@as_json
def status(*, is_json: bool) -> None:
    """Say which node this is, what runs on it, and what you may do."""
    seen = call(lambda client: client.status())
    if is_json:
        say(seen)
        return
    click.echo(f"Node       {seen.node}, Leeward {seen.appliance_version}")
    click.echo(f"Release    {seen.slot or 'none is current'}")
    if seen.unfinished is not None:
        click.echo(f"Operation  {seen.unfinished.kind} {seen.unfinished.id} runs, started by {seen.unfinished.actor}")
    click.echo(f"You        {seen.caller}: {', '.join(role.value for role in seen.roles) or 'no role on this node'}")
    if seen.simulated:
        click.echo(f"SIMULATED  {', '.join(seen.simulated)}: figures of these are not real")


@click.command()
@click.option("--redact", "is_redacted", is_flag=True, help="Pseudonyms for names, serial numbers and addresses.")
@as_json
def facts(*, is_redacted: bool, is_json: bool) -> None:
    """Show what was observed of the node; `--json` is a record that can be replayed."""
    seen = call(lambda client: client.facts(redact=is_redacted))
    if is_json:
        say(seen)
        return
    click.echo(f"{seen.hostname}: {seen.os_pretty_name}, kernel {seen.kernel}, {seen.architecture}")
    click.echo(f"{seen.cpu_count} processors, {seen.memory_total_bytes / 2**30:.1f} GiB memory")
    driver = f"driver {seen.driver.version}" if seen.driver else f"no driver ({seen.driver_error or 'unknown why'})"
    click.echo(f"{len(seen.gpus)} GPUs, {driver}")
    for gpu in seen.gpus:
        click.echo(f"  {gpu.index}  {gpu.name}  {gpu.memory_total_bytes / 2**30:.1f} GiB  {gpu.uuid}")
    for place in seen.filesystems:
        click.echo(f"{place.path}: {place.free_bytes / 1e9:.1f} of {place.total_bytes / 1e9:.1f} GB free")
    for timing in seen.disk_timings:
        click.echo(f"{timing.path}: {_pace(timing)}")
    if seen.simulated:
        click.echo(f"SIMULATED: {', '.join(seen.simulated)}")


def _pace(timing: DiskTiming) -> str:
    """Say what a disk gives; what was not measured is `??`."""
    paces = [
        "??" if pace is None else f"{pace / 1e6:,.0f} MB/s"
        for pace in (timing.read_bytes_per_s, timing.write_bytes_per_s)
    ]
    sync = "??" if timing.sync_p99_s is None else f"{timing.sync_p99_s * 1000:.1f} ms"
    return f"reads {paces[0]}, writes {paces[1]}, a durable write takes {sync}"


@click.command()
@click.option("--medium", metavar="DIR", help="Check against the release on this medium.")
@judging
@as_json
def preflight(
    *, medium: str | None, is_strict: bool, waived: tuple[str, ...], reasons: tuple[str, ...], is_json: bool
) -> None:
    """Ask every preflight check and change nothing; exit status 3 when one of them blocks.

    With --json, one finding a line. A waiver is written to the audit log under your name.
    """
    path = str(Path(medium).absolute()) if medium else None
    given = waivers(waived, reasons) if waived or reasons else {}
    findings = call(
        lambda client: (
            client.judged_preflight(path, strict=is_strict, waivers=given)
            if is_strict or given
            else client.preflight(path)
        )
    )
    for place, finding in enumerate(findings):
        if is_json:
            say(finding)
            continue
        if finding.group and (place == 0 or findings[place - 1].group != finding.group):
            click.echo(finding.group)
        _print_finding(finding)
    if not is_json:
        click.echo(_count(findings))
    stops = [finding for finding in findings if finding.blocking]
    if stops:
        raise PreflightBlocked(
            detail="; ".join(f"{f.check}: found {f.observed}, required {f.required}" for f in stops),
            remedy=" ".join(f.remedy for f in stops),
        )


def _print_finding(finding: Finding) -> None:
    click.echo(f"  {finding.word:6}  {finding.check}: {finding.observed}")
    if finding.outcome is not Outcome.PASS:
        click.echo(f"          required {finding.required}. {finding.why}")
        click.echo(f"          {f'waived: {finding.waiver}' if finding.waiver else finding.remedy}")


def _count(findings: Sequence[Finding]) -> str:
    """Say how many findings there are of each word."""
    counts = Counter(finding.word for finding in findings)
    told = ", ".join(f"{counts[word]} {word}" for word in ("ok", "WARN", "WAIVED", "FAIL", "BLOCKS") if counts[word])
    return f"{len(findings)} checks: {told}"


@click.command()
@as_json
def health(*, is_json: bool) -> int:
    """Say whether the node serves, and what needs a person; exit status 3 where it is degraded or down."""
    report = call(lambda client: client.health())
    if is_json:
        say(report)
    else:
        _print_health(report)
    return NODE_NEEDS_A_PERSON if report.verdict in {Verdict.DEGRADED, Verdict.DOWN} else 0


def _print_health(report: HealthReport) -> None:
    click.echo(f"{report.node}  {report.verdict.upper()}  {report.release or 'no release'}  {at(report.observed_at)}")
    for alert in report.alerts:
        click.echo(f"{alert.severity.upper():5} {alert.title} (since {at(alert.since)})")
        click.echo(f"      {alert.advice}")
    system = report.system
    required = "??" if report.gpus_required is None else report.gpus_required
    click.echo(f"GPUs     {len(report.gpus)} of {required} needed")
    if report.engine is not None:
        answer = {True: "gives the known answer", False: "does not give the known answer", None: "readiness ??"}
        click.echo(f"Engine   {report.engine.unit_state}, {answer[report.engine.ready]}")
    click.echo(f"Gateway  {system.gateway_state}")
    click.echo(f"Licence  {system.license_state}. {system.license_note}")
    click.echo(f"Audit    {system.audit_entries} entries, head {system.audit_head[:16] or '-'}")
    records = "??" if system.usage_records is None else system.usage_records
    click.echo(
        f"Ledger   {records} records, {'??' if system.usage_unsettled is None else system.usage_unsettled} unsettled"
    )
    table(
        [(d.path, f"{d.free_bytes / 1e9:.1f}", f"{d.total_bytes / 1e9:.1f}") for d in system.disks],
        ("DISK", "FREE GB", "OF GB"),
    )
    if report.simulated:
        click.echo(f"SIMULATED: {', '.join(report.simulated)}; figures of these are not real")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def console(arguments: tuple[str, ...]) -> None:
    """Open the console."""
    program = Path(sys.executable).with_name("leeward-console")
    try:
        os.execv(program, [str(program), *arguments])  # noqa: S606  our own program beside this one, no shell
    except OSError as error:
        raise DaemonUnreachable(
            detail=f"{program} cannot be run: {error.strerror}.",
            remedy="The console comes with the node's appliance; on other machines use the other verbs.",
        ) from error
