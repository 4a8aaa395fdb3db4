"""From a site's inventory to an import: what travels, what is rebuilt, what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bundles.delta import chunks
from bundles.delta.instructions import NAME, delta_from_bytes, delta_to_bytes
from bundles.delta.inventory import SCHEMA, Inventory
from bundles.delta.rebuild import open_delta
from bundles.delta.write import DeltaReport, write_delta
from bundles.errors import (
    Canceled,
    ContentMismatch,
    DeltaBaseDamaged,
    DeltaMisfit,
    InventoryInvalid,
    LeewardError,
    MediaMissing,
    OutputOccupied,
)
from bundles.layout import BLOBS, open_bundle, peek
from bundles.media.opening import open_media
from bundles.media.taking import import_media
from bundles.release import LEAF_BYTES
from bundles.verify import verify_content
from tests.support.small_bundles import NOW
from tests.unit.bundles.site import flip_bit
from tests.unit.delta.conftest import SHARD, Journey, content_of
from tests.unit.delta.weights import many, noise, safetensors_file


def worth(report: DeltaReport, name: str = "weights/target") -> float:
    """Return which share of a section travels."""
    (found,) = (one for one in report.sections if one.name == name)
    return found.carried_bytes / found.size_bytes


def refused(journey: Journey, folder: Path, error: type[LeewardError]) -> LeewardError:
    slots, policy = journey.site.slots(), journey.site.policy

    with pytest.raises(error) as caught:
        journey.import_delta(folder)

    assert journey.site.slots() == slots
    assert journey.site.policy == policy
    assert caught.value.remedy
    return caught.value


def test_an_unchanged_release_travels_as_signatures_alone(journey: Journey) -> None:
    journey.site.import_(journey.release({SHARD: safetensors_file(many())}).path)
    again = journey.release({SHARD: safetensors_file(many())}, epoch=2)

    report = journey.delta(again)

    assert report.carried_bytes == 0
    assert [path.name for path in (report.folder / BLOBS).iterdir()] == [NAME]
    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == safetensors_file(many())


@pytest.mark.parametrize("percent", [2, 6, 10])
def test_a_few_changed_tensors_travel_alone(journey: Journey, percent: int) -> None:
    old, new = many(), many(changed=frozenset(range(percent // 2)))
    journey.site.import_(journey.release({SHARD: safetensors_file(old)}).path)
    bundle = journey.release({SHARD: safetensors_file(new)}, epoch=2)

    report = journey.delta(bundle)

    header = len(safetensors_file(new)) - sum(map(len, new.values()))
    entry = report.release.file(SHARD)
    carried = sum(path.stat().st_size for path in (report.folder / BLOBS).iterdir() if path.name != NAME)
    assert carried - header <= entry.size_bytes * (percent + 1) / 100
    assert carried == report.carried_bytes
    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == safetensors_file(new)


@pytest.mark.parametrize("change", ["grown header", "reordered"])
def test_tensors_that_only_moved_do_not_travel(journey: Journey, change: str) -> None:
    old = many()
    new = safetensors_file(
        dict(reversed(old.items())) if change == "reordered" else old,
        note="grown" if change == "grown header" else "",
    )
    journey.site.import_(journey.release({SHARD: safetensors_file(old)}).path)
    bundle = journey.release({SHARD: new}, epoch=2)

    report = journey.delta(bundle)

    assert report.carried_bytes == len(new) - sum(map(len, old.values()))  # the header
    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == new


def test_a_tensor_larger_than_a_leaf_keeps_its_unchanged_pieces(journey: Journey) -> None:
    big = noise("big", 2 * LEAF_BYTES + 5000)
    changed = big[: LEAF_BYTES + 10] + b"!" + big[LEAF_BYTES + 11 :]
    journey.site.import_(journey.release({SHARD: safetensors_file({"w": big})}).path)
    bundle = journey.release({SHARD: safetensors_file({"w": changed}, note="x")}, epoch=2)

    report = journey.delta(bundle)

    assert LEAF_BYTES <= report.carried_bytes < LEAF_BYTES + 1000
    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == safetensors_file({"w": changed}, note="x")


def test_a_large_file_of_another_kind_keeps_its_unchanged_leaves(journey: Journey) -> None:
    path, old = "playbooks/large", noise("large", 2 * LEAF_BYTES + 100)
    journey.site.import_(journey.release({path: old}).path)
    bundle = journey.release({path: old + b"more"}, epoch=2)

    report = journey.delta(bundle)

    assert report.carried_bytes == 104
    assert (journey.import_delta(report.folder) / path).read_bytes() == old + b"more"


def test_wheels_travel_whole_or_not_at_all(journey: Journey) -> None:
    wheels = {"engine/wheels/a-1-py3-none-any.whl": noise("a", 9000), "engine/wheels/b-1-py3-none-any.whl": b"b" * 700}
    journey.site.import_(journey.release(wheels).path)
    newer = {"engine/wheels/a-1-py3-none-any.whl": noise("a", 9000), "engine/wheels/b-2-py3-none-any.whl": b"B" * 800}
    bundle = journey.release(newer, epoch=2)

    report = journey.delta(bundle)

    (engine,) = (one for one in report.sections if one.name == "engine")
    assert (engine.size_bytes, engine.carried_bytes) == (9800, 800)
    assert (journey.import_delta(report.folder) / "engine/wheels/b-2-py3-none-any.whl").read_bytes() == b"B" * 800


def test_a_delta_verifies_like_any_medium_and_imports_twice(journey: Journey) -> None:
    journey.site.import_(journey.release({SHARD: safetensors_file(many())}).path)
    bundle = journey.release({SHARD: safetensors_file(many(changed=frozenset({3})))}, epoch=2)
    report = journey.delta(bundle)

    assert not verify_content(journey.open(report), report.release)
    first = journey.import_delta(report.folder)

    assert journey.import_delta(report.folder) == first


def test_files_of_the_same_bytes_are_counted_once(journey: Journey) -> None:
    journey.site.import_(journey.release({}).path)
    bundle = journey.release({"playbooks/a": b"same" * 99, "playbooks/b": b"same" * 99}, epoch=2)

    report = journey.delta(bundle)

    assert report.carried_bytes == 396
    assert sum(one.carried_bytes for one in report.sections) == 396


def test_a_second_delta_is_made_against_the_inventory_not_against_what_was_sent(journey: Journey) -> None:
    journey.site.import_(journey.release({SHARD: safetensors_file(many())}).path)
    lost = journey.release({SHARD: safetensors_file(many(changed=frozenset({1})))}, epoch=2)
    journey.delta(lost)  # this medium never arrives
    third = journey.release({SHARD: safetensors_file(many(changed=frozenset({1, 2})))}, epoch=3)

    report = journey.delta(third)

    new = many(changed=frozenset({1, 2}))
    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == safetensors_file(new)


def prepared(journey: Journey) -> DeltaReport:
    journey.site.import_(journey.release({SHARD: safetensors_file(many())}).path)
    return journey.delta(journey.release({SHARD: safetensors_file(many(changed=frozenset({7})))}, epoch=2))


def base_of(journey: Journey) -> Path:
    (held,) = (file for file in journey.inventory().files if file.path == SHARD)
    return journey.stored(held.sha256)


def test_a_damaged_base_is_refused_by_name(journey: Journey) -> None:
    report = prepared(journey)
    base = base_of(journey)
    base.chmod(0o644)
    flip_bit(base, 30_000)

    error = refused(journey, report.folder, DeltaBaseDamaged)

    assert SHARD in error.detail
    assert "full bundle" in error.remedy
    assert error.exit_status == 3


def test_a_damaged_file_that_did_not_change_is_refused_by_name(journey: Journey) -> None:
    report = prepared(journey)
    tekken = report.release.file("weights/target/tekken.json")
    journey.stored(tekken.sha256).chmod(0o644)
    flip_bit(journey.stored(tekken.sha256), 0)

    error = refused(journey, report.folder, DeltaBaseDamaged)

    assert tekken.path in error.detail


def test_a_base_that_is_gone_is_refused_before_anything_is_copied(journey: Journey) -> None:
    report = prepared(journey)
    base_of(journey).unlink()
    stored = journey.site.stored()

    error = refused(journey, report.folder, DeltaMisfit)

    assert SHARD in error.detail
    assert journey.site.stored() == stored


def test_a_delta_for_another_node_says_so_briefly(journey: Journey) -> None:
    report = prepared(journey)
    stranger = journey.folder / "empty-store"

    blobs = open_delta(open_bundle(report.folder), stranger)

    assert blobs is not None
    with pytest.raises(DeltaMisfit, match="and 1 more"):
        blobs.compare(report.release.files)


def test_a_base_that_goes_away_while_it_is_read_is_refused(journey: Journey) -> None:
    report = prepared(journey)
    entry, blobs = report.release.file(SHARD), journey.open(report)

    with blobs.opened(entry) as reader:
        base_of(journey).unlink()
        with pytest.raises(DeltaBaseDamaged, match="not there any more"):
            reader.fill(0, memoryview(bytearray(entry.size_bytes)))


def test_a_base_that_shrinks_or_fails_while_it_is_read_is_refused(
    journey: Journey, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = prepared(journey)
    entry, blobs = report.release.file(SHARD), journey.open(report)
    view = memoryview(bytearray(entry.size_bytes))

    with blobs.opened(entry) as reader:
        reader.fill(0, view)
        os.truncate(base_of(journey), 5000)
        with pytest.raises(DeltaBaseDamaged, match="too short"):
            reader.fill(0, view)

    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    report = prepared_again(journey)
    blobs = journey.open(report)
    with blobs.opened(entry) as reader:
        reader.fill(0, view)
        with monkeypatch.context() as bad_disk:
            bad_disk.setattr("bundles.delta.rebuild.read_into", fails)
            with pytest.raises(DeltaBaseDamaged, match="Input/output error"):
                reader.fill(0, view)
        with monkeypatch.context() as bad_disk:
            bad_disk.setattr("bundles.delta.rebuild.hashlib.file_digest", fails)
            with pytest.raises(DeltaBaseDamaged, match="Input/output error"):
                reader.repair(0, view)


def prepared_again(journey: Journey) -> DeltaReport:
    """Mend the store by importing the first release again; then make the delta again."""
    journey.site.import_(journey.folder / "bundle-1")
    return journey.delta(open_bundle(journey.folder / "bundle-2"))


def test_a_canceled_import_of_a_delta_can_be_finished(journey: Journey) -> None:
    old = {name: noise(name, LEAF_BYTES) for name in "abc"}
    new = old | {"b": noise("B", LEAF_BYTES)}
    journey.site.import_(journey.release({SHARD: safetensors_file(old)}).path)
    report = journey.delta(journey.release({SHARD: safetensors_file(new)}, epoch=2))
    media = open_media([report.folder])
    verified = media.check(journey.site.trust, now=NOW)
    told: list[int] = []

    with pytest.raises(Canceled):
        import_media(
            media,
            verified,
            **journey.site.places(),
            progress=lambda _what, done, _total: told.append(done),
            is_canceled=lambda: bool(told) and told[-1] > LEAF_BYTES,
        )

    assert journey.site.slots() == ["26.11.1-e1"]
    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == safetensors_file(new)


def test_importing_the_installed_release_again_mends_the_base(journey: Journey) -> None:
    report = prepared(journey)
    base = base_of(journey)
    base.chmod(0o644)
    flip_bit(base, 30_000)
    refused(journey, report.folder, DeltaBaseDamaged)

    journey.site.import_(journey.folder / "bundle-1")

    expected = safetensors_file(many(changed=frozenset({7})))
    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == expected


def test_damaged_carried_bytes_are_refused_as_the_mediums_fault(journey: Journey) -> None:
    report = prepared(journey)
    flip_bit(report.folder / BLOBS / f"{report.release.file(SHARD).sha256}.l000", 5)

    error = refused(journey, report.folder, ContentMismatch)

    assert SHARD in error.detail


@pytest.mark.parametrize("spoil", ["truncated", "missing", "extra", "folder"])
def test_a_spoiled_medium_is_refused_before_anything_is_copied(journey: Journey, spoil: str) -> None:
    report = prepared(journey)
    carried = report.folder / BLOBS / f"{report.release.file(SHARD).sha256}.l000"
    stored = journey.site.stored()
    match spoil:
        case "truncated":
            os.truncate(carried, 100)
        case "extra":
            carried.with_name("extra").touch()
        case "missing":
            carried.unlink()
        case "folder":
            carried.unlink()
            carried.mkdir()

    refused(journey, report.folder, ContentMismatch)

    assert journey.site.stored() == stored


def test_a_carried_file_that_changes_after_the_comparison_is_refused(journey: Journey) -> None:
    report = prepared(journey)
    entry, blobs = report.release.file(SHARD), journey.open(report)
    carried = report.folder / BLOBS / f"{entry.sha256}.l000"
    assert not blobs.compare(report.release.files)
    os.truncate(carried, 10)

    with blobs.opened(entry) as reader, pytest.raises(ContentMismatch, match="ends before"):
        reader.fill(0, memoryview(bytearray(entry.size_bytes)))
    carried.unlink()
    with blobs.opened(entry) as reader, pytest.raises(ContentMismatch, match="is missing"):
        reader.fill(0, memoryview(bytearray(entry.size_bytes)))


def test_a_medium_that_fails_is_told_from_a_wrong_one(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    report = prepared(journey)
    entry, blobs = report.release.file(SHARD), journey.open(report)

    def fails(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(chunks, "read_into", fails)
    with blobs.opened(entry) as reader, pytest.raises(MediaMissing, match="Input/output error"):
        reader.fill(0, memoryview(bytearray(entry.size_bytes)))


def test_instructions_for_another_size_are_refused(journey: Journey) -> None:
    report = prepared(journey)
    place = report.folder / BLOBS / NAME
    delta = delta_from_bytes(place.read_bytes())
    (plan,) = delta.files
    place.write_bytes(delta_to_bytes(replace(delta, files=(replace(plan, segments=plan.segments[:-1]),))))

    error = refused(journey, report.folder, ContentMismatch)

    assert "are signed" in error.detail


def test_instructions_that_take_other_bytes_are_refused_by_the_signed_digest(journey: Journey) -> None:
    report = prepared(journey)
    place = report.folder / BLOBS / NAME
    delta = delta_from_bytes(place.read_bytes())
    (plan,) = delta.files
    first, *others = plan.segments
    wrong = (replace(first, offset=1), *others)
    place.write_bytes(delta_to_bytes(replace(delta, files=(replace(plan, segments=wrong),))))

    refused(journey, report.folder, ContentMismatch)


def test_a_rebuilt_file_reads_the_same_from_any_leaf(journey: Journey) -> None:
    old = {name: noise(name, LEAF_BYTES * 2 // 3) for name in "abcde"}
    new = {"c": old["c"], "new": noise("new", 5000), "a": old["a"], "e": old["e"]}
    journey.site.import_(journey.release({SHARD: safetensors_file(old)}).path)
    report = journey.delta(journey.release({SHARD: safetensors_file(new)}, epoch=2))
    entry, blobs, expected = report.release.file(SHARD), journey.open(report), safetensors_file(new)

    assert content_of(blobs, entry) == expected
    with blobs.opened(entry) as reader:
        last = bytearray(entry.size_bytes - LEAF_BYTES)
        reader.fill(1, memoryview(last))
    assert bytes(last) == expected[LEAF_BYTES:]


def test_bytes_that_a_medium_carries_may_span_several_pieces(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("chunks", "write", "rebuild"):
        monkeypatch.setattr(f"bundles.delta.{module}.PART_BYTES", 7000)
    journey.site.import_(journey.release({SHARD: safetensors_file(many())}).path)
    monkeypatch.undo()
    bundle = journey.release({SHARD: safetensors_file(many(changed=frozenset(range(30))))}, epoch=2)
    report = journey.delta(bundle)
    whole = report.folder / BLOBS / f"{report.release.file(SHARD).sha256}.l000"
    content = whole.read_bytes()
    for number, begin in enumerate(range(0, len(content), 7000)):
        whole.with_name(f"{whole.name[:-3]}{number:03d}").write_bytes(content[begin : begin + 7000])
    for module in ("chunks", "write", "rebuild"):
        monkeypatch.setattr(f"bundles.delta.{module}.PART_BYTES", 7000)

    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == safetensors_file(
        many(changed=frozenset(range(30)))
    )


def test_a_plain_medium_is_no_delta(journey: Journey) -> None:
    bundle = journey.release({})

    assert open_delta(bundle, journey.site.folder / "store") is None


def test_a_damaged_bundle_makes_no_delta(journey: Journey) -> None:
    journey.site.import_(journey.release({SHARD: safetensors_file(many())}).path)
    bundle = journey.release({SHARD: safetensors_file(many(changed=frozenset({7})))}, epoch=2)
    blob = bundle.path / BLOBS / f"{peek(bundle).file(SHARD).sha256}.p000"
    flip_bit(blob, 50_000)

    with pytest.raises(ContentMismatch, match="not what its manifest says"):
        journey.delta(bundle)

    assert not (journey.folder / "delta").exists()
    os.truncate(blob, 50_000)
    with pytest.raises(ContentMismatch, match="not what its manifest says"):
        journey.delta(bundle)
    assert [path.name for path in journey.folder.iterdir() if "delta" in path.name] == []


def test_a_delta_overwrites_nothing_but_a_bundle(journey: Journey) -> None:
    journey.site.import_(journey.release({}).path)
    (journey.folder / "delta").mkdir()
    (journey.folder / "delta" / "thesis.txt").touch()

    with pytest.raises(OutputOccupied):
        journey.delta(journey.release({}, epoch=2))

    assert (journey.folder / "delta" / "thesis.txt").exists()


def test_a_canceled_delta_leaves_nothing(journey: Journey) -> None:
    bundle = journey.release({})
    nothing = Inventory(schema=SCHEMA, node="n1", created_at=NOW, releases=(), damaged=(), files=())

    with pytest.raises(Canceled):
        write_delta(bundle, nothing, out=journey.folder / "delta", is_canceled=lambda: True)

    assert [path.name for path in journey.folder.iterdir() if "delta" in path.name] == []


def test_a_receipt_is_as_good_as_an_inventory_where_the_old_bundle_is_at_hand(journey: Journey) -> None:
    first = journey.release({SHARD: safetensors_file(many())})
    journey.site.import_(first.path)
    second = journey.release({SHARD: safetensors_file(many(changed=frozenset({7})))}, epoch=2)
    whole = journey.delta(second)

    receipt = replace(journey.inventory(), files=())
    report = journey.delta(second, receipt, bases=(first,))

    assert receipt.is_receipt
    assert report.carried_bytes == whole.carried_bytes
    expected = safetensors_file(many(changed=frozenset({7})))
    assert (journey.import_delta(report.folder) / SHARD).read_bytes() == expected


def test_a_receipt_for_a_release_that_is_not_at_hand_is_refused(journey: Journey) -> None:
    first = journey.release({})
    journey.site.import_(first.path)
    receipt = replace(journey.inventory(), files=())

    with pytest.raises(InventoryInvalid, match=r"26\.11\.1-e1"):
        journey.delta(first, receipt)
