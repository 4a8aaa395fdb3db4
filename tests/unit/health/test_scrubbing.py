"""Scrubbing: drift of the current release becomes an alert and an audit entry, and ends when it is repaired."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.adapters.slots import SlotFolder
from appliance.domain.health import Severity
from appliance.services.scrubbing import Scrubbing, ScrubLimits
from bundles.errors import Canceled
from bundles.keys import Keyring
from tests.support.small_bundles import NOW, tree, write_bundle
from tests.unit.bundles.site import Site, flip_bit
from tests.unit.exports.twins import TwinAuditLog, TwinClock

SHARD = "weights/target/consolidated.safetensors"


class Bench:
    """A node with one release that is current."""

    def __init__(self, folder: Path) -> None:
        keyring = Keyring.create(folder / "keys", now=NOW)
        self.medium = write_bundle(folder / "medium", keyring).folder
        self.site = Site.trusting(folder / "site", keyring)
        self.slot = self.site.import_(self.medium)
        self.slots = SlotFolder(self.site.folder / "slots")
        self.slots.activate(self.slot.name)
        self.audit, self.clock = TwinAuditLog(), TwinClock()
        self.scrubbing = self.with_limits(ScrubLimits())

    def with_limits(self, limits: ScrubLimits) -> Scrubbing:
        return Scrubbing(
            slots=self.slots,
            record=self.site.folder / "scrub.json",
            audit=self.audit,
            clock=self.clock,
            accepted=self.site.trust.accepted,
            limits=limits,
        )

    def damage(self) -> None:
        (self.slot / SHARD).chmod(0o644)
        flip_bit(self.slot / SHARD, 900)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_sound_release_is_recorded_as_verified_and_left_alone_for_a_day(bench: Bench) -> None:
    first_s = bench.scrubbing.once()
    bench.clock.time += timedelta(hours=20)
    again_s = bench.scrubbing.once()

    assert (first_s, again_s) == (86_400, 4 * 3600)
    assert bench.audit.acts() == [("release.scrub", "verified")]
    assert bench.scrubbing.alerts() == ()


def test_drift_is_an_alert_and_one_audit_entry_with_file_and_leaf(bench: Bench) -> None:
    bench.damage()

    assert bench.scrubbing.once() == ScrubLimits().retry_s
    bench.scrubbing.once()

    (alert,) = bench.scrubbing.alerts()
    assert (alert.code, alert.severity) == ("release-drifted", Severity.FAIL)
    assert f"{SHARD} is damaged (leaf 0)" in alert.advice
    (entry,) = bench.audit.written
    assert entry.outcome == "failed"
    assert dict(entry.details) == {"path": SHARD, "fault": "damaged", "leaves": "0"}


def test_a_manifest_that_was_exchanged_with_its_files_is_an_alert(bench: Bench, tmp_path: Path) -> None:
    thief = Keyring.create(tmp_path / "thief", now=NOW)
    other = write_bundle(tmp_path / "other", thief, files=tree(seed=9)).folder
    forged = Site.trusting(tmp_path / "forged", thief).import_(other)
    assert forged.name == bench.slot.name
    shutil.rmtree(bench.slot)
    forged.rename(bench.slot)

    bench.scrubbing.once()

    (alert,) = bench.scrubbing.alerts()
    assert (alert.code, alert.severity) == ("release-drifted", Severity.FAIL)
    assert "release.json is not signed" in alert.advice
    assert bench.audit.acts() == [("release.scrub", "failed")]


def test_a_trusted_state_that_is_damaged_leaves_the_release_unknown(bench: Bench) -> None:
    (bench.site.folder / "trust/current/accepted.json").write_bytes(b"[]")

    bench.scrubbing.once()

    (alert,) = bench.scrubbing.alerts()
    assert (alert.code, alert.severity) == ("release-unknown", Severity.WARN)
    assert bench.audit.acts() == []


def test_the_alert_ends_when_the_release_was_imported_again(bench: Bench) -> None:
    bench.damage()
    bench.scrubbing.once()
    bench.site.import_(bench.medium)

    bench.scrubbing.once()

    assert bench.scrubbing.alerts() == ()
    assert bench.audit.acts() == [("release.scrub", "failed"), ("release.scrub", "verified")]


def test_many_files_are_told_as_three_and_a_number(bench: Bench) -> None:
    for number in range(5):
        (bench.slot / f"stray{number}").write_bytes(b"")
    bench.scrubbing.once()

    (alert,) = bench.scrubbing.alerts()

    assert "stray2 is not signed; and 2 more" in alert.advice


def test_without_a_release_nothing_is_read_and_nothing_said(bench: Bench) -> None:
    (bench.site.folder / "slots/current").unlink()

    assert bench.scrubbing.once() == ScrubLimits().retry_s
    assert bench.scrubbing.alerts() == ()
    assert bench.audit.written == []


def test_a_release_that_cannot_be_compared_is_unknown_not_good(bench: Bench) -> None:
    (bench.slot / "release.json").unlink()

    bench.scrubbing.once()

    (alert,) = bench.scrubbing.alerts()
    assert (alert.code, alert.severity) == ("release-unknown", Severity.WARN)
    assert bench.audit.written == []


def test_the_thread_scrubs_by_itself_and_stops_when_asked(bench: Bench) -> None:
    scrubbing = bench.with_limits(ScrubLimits(first_s=0.0))
    scrubbing.start()
    wait_until_audited(bench)

    scrubbing.stop()

    assert bench.audit.acts() == [("release.scrub", "verified")]


def test_a_stop_in_the_middle_ends_the_thread_and_loses_nothing(bench: Bench) -> None:
    scrubbing = bench.with_limits(ScrubLimits(first_s=0.0, bytes_per_s=1.0))
    scrubbing.start()
    time.sleep(0.2)

    scrubbing.stop(timeout_s=5.0)

    assert scrubbing._thread is not None
    assert not scrubbing._thread.is_alive()
    assert bench.audit.written == []
    with pytest.raises(Canceled):
        scrubbing.once()


def test_what_was_not_foreseen_is_said_and_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    scrubbing = bench.with_limits(ScrubLimits(first_s=0.0, retry_s=0.01))
    calls: list[int] = []

    def broken() -> float:
        calls.append(1)
        raise RuntimeError("out of nowhere")

    monkeypatch.setattr(scrubbing, "once", broken)
    scrubbing.start()
    deadline = time.monotonic() + 5
    while len(calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    scrubbing.stop()

    (alert,) = scrubbing.alerts()
    assert "out of nowhere" in alert.advice


def test_stopping_what_was_never_started_does_nothing(bench: Bench) -> None:
    bench.scrubbing.stop()

    assert bench.audit.written == []


def wait_until_audited(bench: Bench) -> None:
    deadline = time.monotonic() + 5
    while not bench.audit.written and time.monotonic() < deadline:
        time.sleep(0.01)
