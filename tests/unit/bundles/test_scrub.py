from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bundles import scrub
from bundles.digest import sha256_hex
from bundles.errors import Canceled, ContentMismatch, MediaMissing, ReleaseInvalid, StoreUnusable
from bundles.keys import Keyring
from bundles.layout import open_bundle, peek
from bundles.release import LEAF_BYTES, release_from_bytes
from bundles.scrub import Drift, Fault, Pace, Scrub, SlotBlobs, be_idle, read_record
from bundles.verify import verify_content
from tests.support.small_bundles import NOW, tree, write_bundle
from tests.unit.bundles.site import Site, canonical, flip_bit

SHARD = "weights/target/consolidated.safetensors"
LICENSE = "licenses/target/LICENSE"


class Bench:
    """A slot, its scrub, and what the scrub told."""

    def __init__(self, slot: Path, folder: Path) -> None:
        self.slot = slot
        self.record = folder / "scrub.json"
        self.told: list[Drift] = []
        self.time: datetime = NOW
        self.pauses: list[float] = []
        self.stop_after: int | None = None
        self.bytes_per_s = 16 * LEAF_BYTES

    def run(self) -> scrub.ScrubRecord:
        return Scrub(self.slot, self.record, pace=self.pace(), told=self.told.append).run()

    def pace(self) -> Pace:
        return Pace(bytes_per_s=self.bytes_per_s, pause=self._pause, now=lambda: self.time, monotonic=lambda: 0.0)

    def _pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return self.stop_after is not None and len(self.pauses) > self.stop_after


@pytest.fixture
def bench(site: Site, medium: Path, tmp_path: Path) -> Bench:
    return Bench(site.import_(medium), tmp_path)


def spoil(path: Path) -> None:
    path.chmod(0o644)
    flip_bit(path, 900)


def test_a_manifest_that_was_never_accepted_is_the_drift_and_nothing_is_read_by_it(bench: Bench) -> None:
    spoil(bench.slot / SHARD)

    for _ in range(2):
        record = Scrub(
            bench.slot, bench.record, pace=bench.pace(), told=bench.told.append, accepted=sha256_hex(b"accepted")
        ).run()

        assert record.drifts == (Drift(path="release.json", fault=Fault.NOT_SIGNED),)
    assert record.ended_at is None
    assert bench.told == [*record.drifts]
    assert bench.pauses == []


def test_a_round_over_a_sound_slot_finds_nothing_and_says_when_it_ended(bench: Bench) -> None:
    record = bench.run()

    assert (record.drifts, record.rounds, record.ended_at) == ((), 1, NOW)
    assert record.done == record.files >= len(tree())
    assert read_record(bench.record) == record
    assert bench.told == []


def test_a_flipped_bit_is_told_once_with_file_and_leaf_and_stays_known(bench: Bench) -> None:
    spoil(bench.slot / SHARD)

    first, second = bench.run(), bench.run()

    assert bench.told == [Drift(path=SHARD, fault=Fault.DAMAGED, leaves=(0,))]
    assert first.drifts == second.drifts == tuple(bench.told)
    assert second.rounds == 2
    assert str(bench.told[0]) == f"{SHARD} is damaged (leaf 0)"


def test_a_repair_by_importing_again_is_noticed_at_once(bench: Bench, site: Site, medium: Path) -> None:
    spoil(bench.slot / SHARD)
    bench.run()
    site.import_(medium)

    record = bench.run()

    assert record.drifts == ()
    assert len(bench.told) == 1


@pytest.mark.parametrize(
    ("spoiled", "fault"),
    [
        (lambda path: path.unlink(), Fault.MISSING),
        (lambda path: (path.chmod(0o644), os.truncate(path, 5)), Fault.MISSING),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), Fault.MISSING),
    ],
)
def test_a_file_that_is_gone_short_or_a_link_is_told(
    bench: Bench, spoiled: Callable[[Path], None], fault: Fault
) -> None:
    spoiled(bench.slot / LICENSE)

    bench.run()

    assert bench.told == [Drift(path=LICENSE, fault=fault)]


def test_a_file_or_link_that_nobody_signed_is_told_until_it_is_gone(bench: Bench) -> None:
    (bench.slot / "weights/target/extra.safetensors").write_bytes(b"x")
    (bench.slot / "weights/other").symlink_to("/etc")

    bench.run()
    (bench.slot / "weights/target/extra.safetensors").unlink()
    record = bench.run()

    other = Drift(path="weights/other", fault=Fault.NOT_SIGNED)
    assert bench.told == [other, Drift(path="weights/target/extra.safetensors", fault=Fault.NOT_SIGNED)]
    assert record.drifts == (other,)


def test_a_leaf_that_the_disk_does_not_give_is_unreadable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = scrub.read_into

    def failing(descriptor: int, view: memoryview, offset: int) -> int:
        if len(view) == (bench.slot / SHARD).stat().st_size:
            raise OSError(5, "Input/output error")
        return real(descriptor, view, offset)

    monkeypatch.setattr(scrub, "read_into", failing)

    bench.run()

    assert bench.told == [Drift(path=SHARD, fault=Fault.UNREADABLE, leaves=(0,))]


def test_a_file_that_shrinks_while_it_is_read_is_damaged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "read_into", lambda _descriptor, view, _offset: len(view) - 1)

    bench.run()

    assert {drift.fault for drift in bench.told} == {Fault.DAMAGED}


def test_a_wrong_name_that_the_publisher_signed_is_found(tmp_path: Path, site: Site, keyring: Keyring) -> None:
    medium = write_bundle(tmp_path / "large", keyring, files=tree(shard_bytes=2 * LEAF_BYTES)).folder
    bench = Bench(site.import_(medium), tmp_path)
    release = peek(open_bundle(medium))
    wrong = replace(release.file(SHARD), sha256="0" * 64)
    files = tuple(wrong if entry.path == SHARD else entry for entry in release.files)
    (bench.slot / "release.json").unlink()
    (bench.slot / "release.json").write_bytes(canonical(replace(release, files=files)))
    scrubbed = Scrub(bench.slot, bench.record, pace=bench.pace(), told=bench.told.append)

    with pytest.MonkeyPatch.context() as lenient:
        lenient.setattr(scrub, "release_from_bytes", lambda _content: replace(release, files=files))
        scrubbed.run()

    assert bench.told == [Drift(path=SHARD, fault=Fault.MISNAMED)]


def test_a_stopped_round_goes_on_at_the_file_it_was_at(bench: Bench) -> None:
    bench.stop_after = 3

    with pytest.raises(Canceled):
        bench.run()

    stopped = read_record(bench.record)
    assert stopped is not None
    assert 0 < stopped.done < stopped.files
    bench.stop_after, bench.pauses, bench.time = None, [], NOW + timedelta(hours=1)

    record = bench.run()

    assert record.begun_at == NOW
    assert record.ended_at == bench.time
    assert len(bench.pauses) < record.files - stopped.done + 1


def test_the_scrub_waits_so_long_that_it_keeps_its_pace(bench: Bench) -> None:
    bench.bytes_per_s = 1000

    bench.run()

    size = sum(path.stat().st_size for path in bench.slot.rglob("*") if path.is_file())
    manifest = (bench.slot / "release.json").stat().st_size
    assert sum(bench.pauses) == pytest.approx((size - manifest) / 1000)


def test_another_release_in_the_slot_begins_a_new_record(bench: Bench) -> None:
    spoil(bench.slot / SHARD)
    before = bench.run()
    content = (bench.slot / "release.json").read_bytes()
    release = release_from_bytes(content)
    (bench.slot / "release.json").unlink()
    (bench.slot / "release.json").write_bytes(canonical(replace(release, name="other")))

    record = bench.run()

    assert record.release_sha256 != before.release_sha256
    assert record.rounds == 1


def test_an_unreadable_record_is_begun_anew(bench: Bench) -> None:
    bench.record.write_bytes(b"{")

    assert bench.run().rounds == 1


def test_a_damaged_manifest_is_refused_and_a_record_that_cannot_be_written_is_said(bench: Bench) -> None:
    (bench.slot / "release.json").chmod(0o644)
    bench.record.with_name(".scrub.json.new").mkdir()

    with pytest.raises(StoreUnusable):
        bench.run()
    (bench.slot / "release.json").write_bytes(b"{}")
    with pytest.raises(ReleaseInvalid):
        bench.run()


def test_a_slot_can_be_verified_like_a_medium(bench: Bench) -> None:
    release = release_from_bytes((bench.slot / "release.json").read_bytes())
    assert not verify_content(SlotBlobs(bench.slot), release)
    spoil(bench.slot / SHARD)
    (bench.slot / LICENSE).unlink()
    tekken = bench.slot / "weights/target/tekken.json"
    tekken.unlink()
    tekken.write_bytes(b"{} ")

    found = verify_content(SlotBlobs(bench.slot), release)

    assert found.missing == (LICENSE,)
    assert [(one.path, one.leaves) for one in found.corrupt] == [(SHARD, (0,)), ("weights/target/tekken.json", (0,))]


def test_a_slots_file_has_one_copy_and_says_where_it_ends(bench: Bench) -> None:
    release = release_from_bytes((bench.slot / "release.json").read_bytes())
    entry = release.file(LICENSE)
    with SlotBlobs(bench.slot).opened(entry) as file:
        assert not file.repair(0, memoryview(bytearray(1)))
        with pytest.raises(ContentMismatch):
            file.fill(0, memoryview(bytearray(entry.size_bytes + 1)))
        os.close(file.descriptor)
        with pytest.raises(MediaMissing):
            file.fill(0, memoryview(bytearray(1)))
        os.open("/dev/null", os.O_RDONLY)  # takes the number that `opened` closes


def test_the_thread_steps_back_behind_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "setpriority", lambda *given: asked.append(given))

    be_idle()

    assert [given[2] for given in asked] == [19]


def test_a_sandbox_that_forbids_stepping_back_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)

    be_idle()
