"""XIDs: lines as kernels have written them, and what health makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.adapters.host.kernel_log import KernelXids
from appliance.domain.health import Alert, Severity, Verdict
from appliance.domain.xid import XidSeen, XidTable, newest, xid_in
from appliance.resources import xid_table
from tests.unit.health.bench import Bench
from tests.unit.health.twins import NOW, Watch

OFF_THE_BUS = "NVRM: Xid (PCI:0000:2b:00): 79, GPU has fallen off the bus."
PAGE_FAULT = "NVRM: Xid (0000:01:00): 31, Ch 0000000b, engmask 00000120, intr 10000000"
ROW_REMAPPED = (
    "NVRM: Xid (PCI:0000:10:1c): 63, pid=1896, Row Remapper: New row marked for remapping, reset gpu to activate."
)
SWITCH_FATAL = "nvidia-nvswitch0: SXid (PCI:0000:b7:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"
SWITCH_HARMLESS = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error"
OTHERS = (
    "NVRM: GPU at PCI:0000:2b:00: GPU-0b11d014-1685-04bd-26ed-5fc0bc1c44ae",
    "NVRM: GPU 0000:2b:00.0: GPU has fallen off the bus.",
    "audit: type=1400 exe=/usr/bin/Xid",
    SWITCH_HARMLESS,
)
TABLE = XidTable.from_toml(xid_table())


@pytest.mark.parametrize(
    ("line", "pci", "code", "text"),
    [
        (OFF_THE_BUS, "0000:2b:00", 79, "GPU has fallen off the bus."),
        (PAGE_FAULT, "0000:01:00", 31, "Ch 0000000b, engmask 00000120, intr 10000000"),
        ("NVRM: Xid (0000:03:00): 14, Channel 00000001", "0000:03:00", 14, "Channel 00000001"),
    ],
)
def test_a_line_of_any_driver_tells_device_number_and_text(line: str, pci: str, code: int, text: str) -> None:
    assert xid_in(f"[  966.503025] {line}", NOW) == XidSeen(pci=pci, code=code, text=text, at=NOW)


@pytest.mark.parametrize("line", OTHERS)
def test_a_line_that_only_resembles_one_is_none(line: str) -> None:
    assert xid_in(line, NOW) is None


def test_of_a_thousand_repetitions_the_last_is_kept() -> None:
    seen = [XidSeen(pci="0000:2b:00", code=31, text=str(n), at=NOW + timedelta(seconds=n)) for n in range(1_000)]

    assert newest(reversed(seen)) == (seen[-1],)


def test_every_known_number_leads_to_an_action_that_tells_what_to_do() -> None:
    assert len(TABLE.xids) > 50
    assert {xid.action for xid in TABLE.xids.values()} <= set(TABLE.actions)
    assert all(action.advice.endswith(".") for action in TABLE.actions.values())
    assert TABLE.of(79) == ("GPU has fallen off the bus", "restart-node")
    assert TABLE.of(999)[1] == "support"


class Journal:
    """journalctl with the entries that it is given; remembers how it was asked."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.commands: list[Sequence[str]] = []
        self.is_open = True

    def write(self, line: str, at: datetime = NOW) -> None:
        stamp = str(int(at.timestamp() * 1e6))
        self.entries.append(
            json.dumps({"__CURSOR": f"s={len(self.entries)}", "__REALTIME_TIMESTAMP": stamp, "MESSAGE": line})
        )

    def __call__(self, command: Sequence[str]) -> str | None:
        self.commands.append(command)
        asked = [word for word in command if word.startswith("--after-cursor=s=")]
        first = int(asked[0].rpartition("=")[2]) + 1 if asked else 0
        return "\n".join(self.entries[first:]) if self.is_open else None


def test_the_log_is_read_on_from_where_the_last_look_ended_and_not_at_every_look() -> None:
    journal, watch = Journal(), Watch()
    log = KernelXids(run=journal, interval_s=15.0, monotonic=watch)
    for line in (*OTHERS, OFF_THE_BUS):
        journal.write(line)
    journal.entries.append(json.dumps({"__CURSOR": f"s={len(journal.entries)}", "MESSAGE": [255, 254]}))

    assert [each.code for each in log.read() or ()] == [79]
    journal.write(ROW_REMAPPED, NOW + timedelta(seconds=5))
    assert [each.code for each in log.read() or ()] == [79]
    watch.seconds += 15.0
    found = log.read()

    assert found is not None
    assert [each.code for each in found] == [79, 63]
    assert found[0].at == NOW.astimezone(UTC)
    assert len(journal.commands) == 2
    assert journal.commands[1][-1] == "--after-cursor=s=5"


def test_a_closed_log_is_unknown_and_what_was_seen_is_known_again_when_it_opens() -> None:
    journal, watch = Journal(), Watch()
    log = KernelXids(run=journal, monotonic=watch)
    journal.write(OFF_THE_BUS)
    log.read()
    journal.is_open = False
    watch.seconds += 60.0
    assert log.read() is None

    journal.is_open = True
    watch.seconds += 60.0

    assert [each.code for each in log.read() or ()] == [79]


def alerts(bench: Bench, *lines: str, after_s: float = 60.0) -> list[Alert]:
    """Return health's alerts about XIDs that came so long after the engine's start."""
    started = bench.services.started_at("leeward-engine.service")
    assert started is not None
    seen = tuple(xid for line in lines if (xid := xid_in(line, started + timedelta(seconds=after_s))))
    bench.know_xids(seen)
    return [alert for alert in bench.health.report().alerts if alert.code.startswith("gpu-xid")]


def test_a_gpu_off_the_bus_is_named_by_its_number_and_the_node_is_degraded(bench: Bench) -> None:
    gpu = bench.probe.seen.gpus[2]
    bench.see(gpus=(*bench.probe.seen.gpus[:2], replace(gpu, pci_bus_id="00000000:2B:00.0"), bench.probe.seen.gpus[3]))

    (alert,) = alerts(bench, OFF_THE_BUS)

    assert (alert.severity, alert.title) == (Severity.FAIL, "GPU 2 reported XID 79: GPU has fallen off the bus")
    assert "reseat the board" in alert.advice
    assert bench.health.report().verdict is Verdict.DEGRADED


def test_a_gpu_that_is_gone_is_named_by_its_place(bench: Bench) -> None:
    assert [alert.title for alert in alerts(bench, OFF_THE_BUS.replace("2b", "ee"))] == [
        "The GPU at 0000:ee:00 reported XID 79: GPU has fallen off the bus"
    ]


def test_an_xid_that_a_restart_of_the_engine_answers_is_over_with_it(bench: Bench) -> None:
    (due,) = alerts(bench, PAGE_FAULT)

    assert due.severity is Severity.WARN
    assert "systemctl restart leeward-engine" in due.advice
    assert alerts(bench, PAGE_FAULT, after_s=-60.0) == []


def test_what_a_reset_asks_for_stays_a_warning_once_the_engine_answers_again(bench: Bench) -> None:
    (alert,) = alerts(bench, OFF_THE_BUS, after_s=-60.0)

    assert alert.severity is Severity.WARN
    assert "was started since and gives the known answer" in alert.advice
    assert bench.health.report().verdict is Verdict.SERVING


def test_what_asks_for_nothing_is_no_alert_and_what_nobody_knows_is_one(bench: Bench) -> None:
    assert alerts(bench, ROW_REMAPPED) == []

    (unknown,) = alerts(bench, "NVRM: Xid (PCI:0000:2b:00): 999, new in a later driver")
    assert (unknown.severity, "not in this appliance's table" in unknown.title) == (Severity.WARN, True)


def test_a_fatal_error_of_an_nvswitch_is_told_as_such(bench: Bench) -> None:
    (alert,) = alerts(bench, SWITCH_FATAL, SWITCH_HARMLESS)

    assert alert.severity is Severity.FAIL
    assert alert.title == "The NVSwitch at 0000:b7:00 reported SXID 20034: a fatal NVSwitch error"


def test_a_log_that_cannot_be_read_is_said_where_there_are_gpus(bench: Bench) -> None:
    bench.know_xids(None)
    assert "gpu-xid-unknown" in {alert.code for alert in bench.health.report().alerts}

    bench.see(gpus=())
    bench.know_xids(None)
    assert "gpu-xid-unknown" not in {alert.code for alert in bench.health.report().alerts}
