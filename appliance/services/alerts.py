"""Alerts: which signals need a person, and what that person can do without a network.

Pure: signals in, alerts out. A code is stable and begins with what it is about (engine, gateway,
gpu, disk, license, usage, clock, network); a title names a GPU as `GPU 3`, and both hold no
changing figures, so that an alert keeps its identity while it lasts. Figures stand in the advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from appliance.domain.health import Alert, EngineHealth, Severity, SystemHealth, restarts_in_a_loop
from appliance.domain.license import ComplianceState
from appliance.domain.node import Gpu, NodeFacts

CERTIFICATE_WARN: Final = timedelta(days=30)
CERTIFICATE_FAIL: Final = timedelta(days=3)
DISK_WARN_SHARE: Final = 0.10
DISK_FAIL_BYTES: Final = 2 * 10**9
HOT_C: Final = 85
"""Where NVML gives no slowdown threshold; Hopper's own is 87."""
SLOWDOWN_MARGIN_C: Final = 3
UNKNOWN: Final = "unknown"
"""The state of a unit that systemd was asked for in vain."""
_GB: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What one look at the node saw. `gpus_required` and `engine` are `None` where no release is current.

    `engine_rises` says that the engine's unit runs, is young, and has not been ready yet.
    """

    facts: NodeFacts
    gpus_required: int | None
    engine: EngineHealth | None
    system: SystemHealth
    engine_rises: bool = False


def alerts(signals: Signals) -> tuple[Alert, ...]:
    """Return every alert, the worst first."""
    found = [
        *_engine(signals),
        *_gateway(signals),
        *_gpus(signals),
        *_disks(signals),
        *_license(signals),
        *_ledger(signals),
        *_node(signals),
    ]
    return by_severity(found)


def by_severity(found: Iterable[Alert]) -> tuple[Alert, ...]:
    """Order alerts, the worst first."""
    order = [Severity.FAIL, Severity.WARN, Severity.OK]
    return tuple(sorted(found, key=lambda alert: order.index(alert.severity)))


def _alert(code: str, severity: Severity, title: str, advice: str) -> Alert:
    return Alert(code=code, severity=severity, title=title, advice=advice, since=None)


def _engine(signals: Signals) -> Iterator[Alert]:
    engine = signals.engine
    if engine is None:
        return
    yield from _restarts(engine)
    if engine.unit_state in {"activating", "reloading"} or signals.engine_rises:
        return
    if engine.unit_state == UNKNOWN:
        yield _alert(
            "engine-unknown", Severity.WARN, "It is not known whether the engine runs",
            "systemd does not answer. Run `systemctl list-jobs` and `systemctl status` on the node.",
        )  # fmt: skip
    elif engine.unit_state != "active":
        yield _alert(
            "engine-down",
            Severity.FAIL,
            "The engine does not run",
            f"Its unit is {engine.unit_state}. Read `journalctl -u leeward-engine -n 100`, then "
            "`systemctl start leeward-engine`.",
        )
    elif engine.ready is False:
        yield _alert(
            "engine-not-ready",
            Severity.FAIL,
            "The engine does not give the known answer",
            f"Seen: {engine.ready_note}. Restart it with "
            "`systemctl restart leeward-engine`, and if it recurs import the release again from its medium, "
            "which replaces damaged files.",
        )
    elif engine.ready is None:
        yield _alert(
            "engine-unknown",
            Severity.WARN,
            "It is not known whether the engine is ready",
            f"Seen: {engine.ready_note}. It is asked again within a minute.",
        )


def _restarts(engine: EngineHealth) -> Iterator[Alert]:
    if not engine.restarts:
        return
    is_loop = engine.ready is not True and restarts_in_a_loop(engine.restarts)
    yield _alert(
        "engine-restarts",
        Severity.FAIL if is_loop else Severity.WARN,
        "The engine ends again and again" if is_loop else "The engine has been restarted by systemd",
        f"systemd has restarted it {engine.restarts} times since somebody last started it. Read "
        "`journalctl -u leeward-engine -n 100` for why it ended; `systemctl restart leeward-engine` begins the count "
        "anew.",
    )


def _gateway(signals: Signals) -> Iterator[Alert]:
    system = signals.system
    if signals.engine is None:
        return
    if system.gateway_state == UNKNOWN:
        yield _alert(
            "gateway-unknown", Severity.WARN, "It is not known whether the gateway runs",
            "systemd does not answer. Run `systemctl list-jobs` and `systemctl status` on the node.",
        )  # fmt: skip
    elif system.gateway_state not in {"active", "activating", "reloading"}:
        yield _alert(
            "gateway-down",
            Severity.FAIL,
            "The gateway does not run",
            f"Its unit is {system.gateway_state}; nobody can reach the model. Read "
            "`journalctl -u leeward-gateway -n 100`, then `systemctl start leeward-gateway`.",
        )
    if system.certificate_not_after is None:
        yield _alert(
            "gateway-certificate-unknown",
            Severity.WARN,
            "The gateway's certificate cannot be read",
            "Look at /etc/leeward/tls/server.crt; without it the gateway cannot start again.",
        )
        return
    left = system.certificate_not_after - signals.facts.observed_at
    if left < CERTIFICATE_WARN:
        yield _alert(
            "gateway-certificate-ends",
            Severity.FAIL if left < CERTIFICATE_FAIL else Severity.WARN,
            "The gateway's certificate has ended" if left < timedelta() else "The gateway's certificate ends soon",
            f"Valid until {system.certificate_not_after:%Y-%m-%d %H:%M} UTC. Put a new certificate and key into "
            "/etc/leeward/tls and run `systemctl restart leeward-gateway`.",
        )


def _gpus(signals: Signals) -> Iterator[Alert]:
    facts = signals.facts
    required = signals.gpus_required or 0
    if len(facts.gpus) < required:
        yield _alert(
            "gpu-missing",
            Severity.FAIL,
            "GPUs are missing",
            f"{len(facts.gpus)} of {required} are seen ({facts.driver_error or 'the driver names no cause'}). Read "
            "`dmesg | grep -e NVRM -e Xid`, power the node off and on; if it stays, call the hardware's vendor.",
        )
    elif facts.driver_error and facts.driver is not None:
        yield _alert(
            "gpu-lost", Severity.WARN, "A GPU does not answer",
            f"Seen: {facts.driver_error}. Read `dmesg | grep -e NVRM -e Xid`, then restart the node.",
        )  # fmt: skip
    for gpu in facts.gpus:
        yield from _gpu(gpu)


def _gpu(gpu: Gpu) -> Iterator[Alert]:
    name = f"GPU {gpu.index}"
    limit = gpu.slowdown_temperature_c
    warn_at = HOT_C if limit is None else limit - SLOWDOWN_MARGIN_C
    if gpu.temperature_c is not None and gpu.temperature_c >= warn_at:
        is_slow = limit is not None and gpu.temperature_c >= limit
        yield _alert(
            "gpu-hot",
            Severity.FAIL if is_slow else Severity.WARN,
            f"{name} is hot",
            f"{gpu.temperature_c} °C; it slows down at {limit if limit is not None else 'about 87'} °C. Check fans, "
            "filters and inlet temperature.",
        )
    if gpu.ecc_uncorrected:
        yield _alert(
            "gpu-ecc",
            Severity.FAIL,
            f"{name} has uncorrected memory errors",
            f"{gpu.ecc_uncorrected} since the driver was loaded. Answers may be wrong: stop the engine, restart the "
            "node, and have the GPU replaced if it recurs.",
        )
    if gpu.ecc_enabled is False:
        yield _alert(
            "gpu-ecc-off", Severity.WARN, f"{name} runs without ECC", "Run `nvidia-smi --ecc-config=1`, then restart."
        )  # fmt: skip
    yield from _gpu_links_and_rows(gpu, name)


def _gpu_links_and_rows(gpu: Gpu, name: str) -> Iterator[Alert]:
    if gpu.row_remap_failed:
        yield _alert(
            "gpu-row-remap", Severity.FAIL, f"{name} could not remap a memory row",
            "Have the GPU replaced; `nvidia-smi -q -d ROW_REMAPPER` is the proof that the vendor asks for.",
        )  # fmt: skip
    elif gpu.row_remap_pending:
        yield _alert(
            "gpu-row-remap", Severity.WARN, f"{name} waits to remap a memory row",
            "Restart the node at the next quiet hour; the remapping happens then.",
        )  # fmt: skip
    if gpu.recovery_action not in {None, "none"}:
        yield _alert(
            "gpu-recovery", Severity.FAIL, f"{name} needs recovery",
            f"The driver asks for {gpu.recovery_action}. Stop the engine, then reset the GPU or restart the node.",
        )  # fmt: skip
    if gpu.pcie_width is not None and gpu.pcie_width < (gpu.pcie_width_maximum or 0):
        yield _alert(
            "gpu-pcie", Severity.WARN, f"{name} runs on fewer PCIe lanes",
            f"x{gpu.pcie_width} of x{gpu.pcie_width_maximum}. Power the node off and reseat the board or its riser.",
        )  # fmt: skip
    if gpu.nvlinks_active is not None and gpu.nvlinks_total and gpu.nvlinks_active < gpu.nvlinks_total:
        yield _alert(
            "gpu-nvlink", Severity.WARN, f"{name} has NVLinks down",
            f"{gpu.nvlinks_active} of {gpu.nvlinks_total} are active. Read `nvidia-smi nvlink --status`; restart the "
            "node, then reseat the board or the bridge.",
        )  # fmt: skip


def _disks(signals: Signals) -> Iterator[Alert]:
    for disk in signals.system.disks:
        is_full = disk.free_bytes < DISK_FAIL_BYTES
        if is_full or disk.free_bytes < DISK_WARN_SHARE * disk.total_bytes:
            yield _alert(
                "disk-low",
                Severity.FAIL if is_full else Severity.WARN,
                f"The disk of {disk.path} is nearly full",
                f"{disk.free_bytes / _GB:.1f} of {disk.total_bytes / _GB:.1f} GB are free. Move evidence exports and "
                "old logs away; with none left the gateway takes no requests, because it could not record them.",
            )


def _license(signals: Signals) -> Iterator[Alert]:
    system = signals.system
    if system.license_state == ComplianceState.ATTESTATION_DUE:
        yield _alert("license-due", Severity.WARN, "The licence attestation of this month is due", system.license_note)
    elif system.license_state == ComplianceState.OVER_THRESHOLD:
        yield _alert("license-over", Severity.FAIL, "The licence does not cover this use", system.license_note)
    elif system.license_state == ComplianceState.NO_TERMS and signals.engine is not None:
        yield _alert("license-none", Severity.WARN, "No licence terms are on record", system.license_note)


def _ledger(signals: Signals) -> Iterator[Alert]:
    unsettled, engine = signals.system.usage_unsettled, signals.engine
    if unsettled is None:
        if engine is not None:  # before the first provisioning there is no ledger, and none is missed
            yield _alert(
                "usage-unreadable", Severity.FAIL, "The ledger cannot be read",
                "Look at /var/lib/leeward/ledger and its disk, then run `leeward provision`.",
            )  # fmt: skip
        return
    in_flight = (engine.requests_running or 0) + (engine.requests_waiting or 0) if engine else 0
    if unsettled > in_flight:
        yield _alert(
            "usage-unsettled",
            Severity.WARN,
            "Usage records stay unsettled",
            f"{unsettled} are open while {in_flight} requests are in flight. `systemctl restart leeward-gateway` "
            "closes them as abandoned; they are then counted by their last known tokens.",
        )


def _node(signals: Signals) -> Iterator[Alert]:
    facts = signals.facts
    if facts.simulated:
        yield _alert(
            "simulated", Severity.WARN, "Hardware is SIMULATED on this node",
            f"Simulated: {', '.join(facts.simulated)}. Good for a rehearsal; take it out of "
            "/etc/leeward/leeward.toml before real use.",
        )  # fmt: skip
    if facts.clock_synchronized is False:
        yield _alert(
            "clock-unsynchronized", Severity.WARN, "No time source disciplines the clock",
            "Point chrony at the site's time server, or compare with a trusted watch each month.",
        )  # fmt: skip
    if facts.default_routes:
        yield _alert(
            "network-default-route", Severity.WARN, "The node has a default route",
            f"Seen: {'; '.join(facts.default_routes)}. Remove the gateway from the interface's configuration.",
        )  # fmt: skip
