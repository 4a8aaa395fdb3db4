"""One verdict from many signals, each alert with advice, and nothing guessed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.adapters.host import certificate_not_after
from appliance.domain.health import HealthReport, Severity, Verdict
from appliance.domain.license import RevenueBand
from appliance.domain.node import NodeFacts
from appliance.domain.usage import UsageState
from appliance.domain.wire import from_plain, to_plain
from tests.nodes import node
from tests.unit.checks.releases import CPU
from tests.unit.exports.twins import usage_record
from tests.unit.health.bench import Bench, codes
from tests.unit.health.twins import NOW


def test_a_node_where_all_is_well_serves_without_alerts(bench: Bench) -> None:
    report = bench.report()

    assert report.verdict is Verdict.SERVING
    assert report.alerts == ()
    assert report.release == "26.11.0-e1"
    assert (report.gpus_required, len(report.gpus)) == (4, 4)
    assert report.engine is not None
    assert report.engine.ready is True
    assert report.engine.ready_age_s == pytest.approx(1.01)
    assert report.system.license_state == "compliant"


def test_a_report_survives_the_wire(bench: Bench) -> None:
    report = bench.report()

    assert from_plain(to_plain(report), HealthReport) == report


def test_a_cpu_release_serves_on_a_node_without_gpus(bench: Bench) -> None:
    bench.release = CPU
    bench.see(gpus=(), driver=None, driver_error="no GPU driver is installed")

    report = bench.report()

    assert report.verdict is Verdict.SERVING
    assert report.alerts == ()


def test_a_node_without_a_release_is_empty_and_asks_for_nothing(bench: Bench) -> None:
    bench.release = None
    bench.ledger_is_missing = True
    bench.certificate = None
    bench.services.states = {"leeward-engine.service": "inactive", "leeward-gateway.service": "inactive"}

    report = bench.report()

    assert report.verdict is Verdict.EMPTY
    assert (report.engine, report.release, report.gpus_required) == (None, None, None)
    assert report.alerts == ()


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("inactive", Verdict.DOWN),
        ("failed", Verdict.DOWN),
        ("deactivating", Verdict.DOWN),
        ("activating", Verdict.STARTING),
        ("reloading", Verdict.STARTING),
    ],
)
@pytest.mark.parametrize("unit", ["engine", "gateway"])
def test_a_unit_that_is_not_active_decides_the_verdict(bench: Bench, unit: str, state: str, verdict: Verdict) -> None:
    bench.services.states[f"leeward-{unit}.service"] = state

    report = bench.report()

    assert report.verdict is verdict
    assert (f"{unit}-down" in codes(report)) == (verdict is Verdict.DOWN)


def test_an_engine_that_runs_but_has_never_answered_is_starting_for_half_an_hour(bench: Bench) -> None:
    bench.engine.says = None
    bench.services.started = NOW - timedelta(minutes=29)
    bench.readiness.ask()
    young = bench.report()
    bench.services.started = NOW - timedelta(minutes=31)
    bench.readiness.ask()
    old = bench.report()

    assert (young.verdict, codes(young)) == (Verdict.STARTING, set())
    assert (old.verdict, codes(old)) == (Verdict.DOWN, {"engine-not-ready"})


def test_an_engine_that_fell_silent_is_down_even_when_it_is_young(bench: Bench) -> None:
    bench.services.started = NOW - timedelta(minutes=5)
    bench.readiness.ask()
    bench.engine.says = None
    bench.readiness.ask()

    report = bench.report()

    assert report.verdict is Verdict.DOWN
    assert "the socket refuses" in report.alerts[0].advice


def test_an_engine_with_other_weights_never_serves(bench: Bench) -> None:
    bench.engine.says = "5"
    bench.readiness.ask()

    report = bench.report()

    assert report.verdict is Verdict.DOWN
    assert report.engine is not None
    assert report.engine.ready is False


def test_an_answer_that_is_too_old_is_unknown_and_not_serving(bench: Bench) -> None:
    bench.watch.seconds += 200

    report = bench.report()

    assert report.verdict is Verdict.DEGRADED
    assert codes(report) == {"engine-unknown"}
    assert report.engine is not None
    assert report.engine.ready is None


def test_a_restarted_engine_is_not_ready_by_the_answer_of_the_last_run(bench: Bench) -> None:
    bench.services.started = NOW - timedelta(seconds=3)

    assert bench.report().verdict is Verdict.STARTING


def test_a_systemd_that_does_not_answer_is_unknown_and_nobody_is_called_down(bench: Bench) -> None:
    bench.services.broken = True

    report = bench.report()

    assert report.verdict is Verdict.DEGRADED
    assert report.system.gateway_state == "unknown"
    assert codes(report) == {"engine-unknown", "gateway-unknown"}


@pytest.mark.parametrize(
    ("changes", "code", "severity"),
    [
        ({"temperature_c": 84}, "gpu-hot", Severity.WARN),
        ({"temperature_c": 92}, "gpu-hot", Severity.FAIL),
        ({"temperature_c": 85, "slowdown_temperature_c": None}, "gpu-hot", Severity.WARN),
        ({"ecc_uncorrected": 3}, "gpu-ecc", Severity.FAIL),
        ({"ecc_enabled": False}, "gpu-ecc-off", Severity.WARN),
        ({"row_remap_failed": True}, "gpu-row-remap", Severity.FAIL),
        ({"row_remap_pending": True}, "gpu-row-remap", Severity.WARN),
        ({"recovery_action": "gpu-reset"}, "gpu-recovery", Severity.FAIL),
        ({"pcie_width": 8}, "gpu-pcie", Severity.WARN),
        ({"nvlinks_active": 17}, "gpu-nvlink", Severity.WARN),
    ],
)
def test_a_sick_gpu_is_named_with_its_number(
    bench: Bench, changes: dict[str, Any], code: str, severity: Severity
) -> None:
    bench.see_gpu(2, **changes)

    report = bench.report()

    (alert,) = report.alerts
    assert (alert.code, alert.severity) == (code, severity)
    assert "GPU 2" in alert.title
    assert alert.advice
    assert report.verdict is (Verdict.DEGRADED if severity is Severity.FAIL else Verdict.SERVING)


def test_what_a_gpu_does_not_tell_raises_no_alert(bench: Bench) -> None:
    unknown = ("temperature_c", "ecc_uncorrected", "ecc_enabled", "row_remap_pending", "row_remap_failed")
    bench.see_gpu(1, **dict.fromkeys((*unknown, "recovery_action", "pcie_width", "nvlinks_active", "nvlinks_total")))

    assert bench.report().alerts == ()


def test_a_missing_gpu_degrades_even_while_the_engine_still_answers(bench: Bench) -> None:
    bench.see(gpus=bench.probe.seen.gpus[:3], driver_error="GPU 3: GPU is lost")

    report = bench.report()

    assert report.verdict is Verdict.DEGRADED
    assert codes(report) == {"gpu-missing"}
    assert "GPU 3: GPU is lost" in report.alerts[0].advice


@pytest.mark.parametrize(
    ("days", "expected"),
    [(31, None), (29, Severity.WARN), (2, Severity.FAIL), (-1, Severity.FAIL)],
)
def test_the_certificate_is_warned_of_a_month_before_its_end(
    bench: Bench, days: int, expected: Severity | None
) -> None:
    bench.certificate = NOW + timedelta(days=days)

    found = [alert.severity for alert in bench.report().alerts if alert.code == "gateway-certificate-ends"]

    assert found == ([] if expected is None else [expected])


def test_an_unreadable_certificate_is_said_to_be_so(bench: Bench) -> None:
    bench.certificate = None

    assert codes(bench.report()) == {"gateway-certificate-unknown"}


@pytest.mark.parametrize(("free", "severity"), [(10**9, Severity.FAIL), (100 * 10**9, Severity.WARN)])
def test_a_disk_that_fills_up_is_told_once_per_file_system(bench: Bench, free: int, severity: Severity) -> None:
    bench.see(
        filesystems=tuple(
            replace(place, free_bytes=free) if place.path == "/var/lib/leeward" else place
            for place in bench.probe.seen.filesystems
        )
    )

    report = bench.report()

    assert [(a.code, a.severity) for a in report.alerts] == [("disk-low", severity)]
    assert [disk.path for disk in report.system.disks] == ["/var/lib/leeward", "/opt"]


def test_the_licence_is_due_without_a_statement_and_never_stops_serving(bench: Bench) -> None:
    bench.licenses.kept_attestations.clear()

    report = bench.report()

    assert (report.verdict, codes(report)) == (Verdict.SERVING, {"license-due"})
    assert "2026-11" in report.system.license_note


def test_revenue_over_the_threshold_is_a_failure_with_words_for_the_licence_owner(bench: Bench) -> None:
    bench.state_for("2026-11", RevenueBand.OVER)

    report = bench.report()

    assert codes(report) == {"license-over"}
    assert "commercial licence" in report.alerts[0].advice
    assert report.verdict is Verdict.DEGRADED


def test_requests_in_flight_are_no_unsettled_records(bench: Bench) -> None:
    bench.usage.rows = [usage_record(n, state=UsageState.ADMITTED) for n in range(3)]
    bench.engine.in_flight(3)

    assert bench.report().alerts == ()


def test_unsettled_records_are_told_only_when_they_last(bench: Bench) -> None:
    bench.usage.rows = [usage_record(n, state=UsageState.ADMITTED) for n in range(3)]
    first = bench.report()
    bench.see(observed_at=NOW + timedelta(seconds=301))
    later = bench.report()

    assert first.alerts == ()
    assert codes(later) == {"usage-unsettled"}
    assert later.alerts[0].since == NOW
    assert (later.system.usage_records, later.system.usage_unsettled) == (3, 3)


def test_a_missing_ledger_is_unknown_and_not_zero(bench: Bench) -> None:
    bench.ledger_is_missing = True

    report = bench.report()

    assert (report.system.usage_records, report.system.usage_unsettled) == (None, None)
    assert codes(report) == {"usage-unreadable"}
    assert report.verdict is Verdict.DEGRADED


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"clock_synchronized": False}, "clock-unsynchronized"),
        ({"default_routes": ("0.0.0.0/0 dev eno1",)}, "network-default-route"),
        ({"simulated": ("gpus",)}, "simulated"),
    ],
)
def test_what_is_odd_about_the_node_is_warned_of_while_it_serves(
    bench: Bench, changes: dict[str, Any], code: str
) -> None:
    bench.see(**changes)

    report = bench.report()

    assert (report.verdict, codes(report)) == (Verdict.SERVING, {code})


def test_an_unknown_clock_raises_no_alert(bench: Bench) -> None:
    bench.see(clock_synchronized=None)

    assert bench.report().alerts == ()


def test_failures_come_first_and_an_alert_keeps_its_beginning_until_it_ends(bench: Bench) -> None:
    bench.see(default_routes=("0.0.0.0/0 dev eno1",))
    bench.report()
    bench.see(observed_at=NOW + timedelta(minutes=7))
    bench.see_gpu(0, ecc_uncorrected=1)

    report = bench.report()

    assert [(a.code, a.since) for a in report.alerts] == [
        ("gpu-ecc", NOW + timedelta(minutes=7)),
        ("network-default-route", NOW),
    ]
    bench.see(default_routes=())
    bench.report()
    bench.see(default_routes=("0.0.0.0/0 dev eno1",), observed_at=NOW + timedelta(minutes=9))
    again = bench.report()
    assert [a.since for a in again.alerts if a.code == "network-default-route"] == [NOW + timedelta(minutes=9)]


def test_two_readers_within_a_second_get_one_look(bench: Bench) -> None:
    looks = bench.probe.looks

    first = bench.health.report()
    bench.watch.seconds += 0.9
    second = bench.health.report()
    bench.watch.seconds += 0.2
    third = bench.health.report()

    assert first is second
    assert third is not first
    assert bench.probe.looks == looks + 2


def test_recent_audit_entries_are_events_newest_first(bench: Bench) -> None:
    for number in range(25):
        outcome = "failed" if number == 24 else "succeeded"
        bench.audit.append(actor="ada", action="key.create", object_=f"k{number}", outcome=outcome, details={})

    report = bench.report()

    assert len(report.events) == 20
    assert (report.events[0].severity, report.events[0].text) == (Severity.FAIL, "ada: key.create k24 failed")
    assert report.system.audit_entries == 25
    assert report.system.audit_head == bench.audit.written[-1].entry_hash


def test_facts_of_a_simulated_node_stay_marked_in_the_report(bench: Bench) -> None:
    bench.see(simulated=("gpus",))

    assert bench.report().simulated == ("gpus",)


def test_a_certificate_file_is_read_and_an_unreadable_one_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "server.crt"
    assert certificate_not_after(path) is None
    path.write_text("no certificate")
    assert certificate_not_after(path) is None

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llm01")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    assert certificate_not_after(path) == NOW + timedelta(days=90)


def test_all_composed_nodes_give_a_report() -> None:
    facts: NodeFacts = node("wrong-gpu-lost")
    bench = Bench()
    bench.probe.seen = facts

    assert bench.report().verdict is Verdict.DEGRADED
