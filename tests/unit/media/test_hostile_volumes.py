"""What a volume says of itself is never believed, and what fails to read is like what is not there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, MediaMissing, SignatureRefused, VolumesMissing
from bundles.layout import open_bundle
from bundles.media import mend, reader
from bundles.media.header import Held, VolumeHeader, VolumeKind, header_from_bytes, header_to_bytes, read_header
from bundles.media.kept import Kept
from bundles.media.mend import Mender
from bundles.media.opening import open_media
from bundles.media.parity import Combination, coefficient, recipe
from bundles.media.plan import Leaf, plan
from bundles.media.reader import MediaBlobs
from bundles.media.split import lay_out, write_volume
from bundles.release import LEAF_BYTES, Release
from bundles.store import Store
from tests.support.small_bundles import NOW
from tests.unit.bundles.site import Site, flip_bit, replace_by_fifo
from tests.unit.media.reading import copied, same_as_signed, take

SHARD = "weights/target/consolidated.safetensors"
HEADER = VolumeHeader(
    release="ab" * 32,
    kind=VolumeKind.PARITY,
    number=6,
    data=5,
    parity=2,
    holds=(Held(name="parity.000", size_bytes=8),),
    digests=("cd" * 32,),
)


def test_a_header_comes_back_as_it_was_written() -> None:
    assert header_from_bytes(header_to_bytes(HEADER)) == HEADER


@pytest.mark.parametrize(
    "change",
    [
        {"release": "x"},
        {"digests": ("x",)},
        {"data": 0},
        {"parity": -1},
        {"data": 200, "parity": 100},
        {"number": 8},
        {"number": 0},
        {"kind": VolumeKind.DATA},
        {"kind": VolumeKind.REPAIR},
    ],
)
def test_a_header_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"digest|cannot be"):
        replace(HEADER, **change)  # type: ignore[arg-type]  # each case changes one field


def spoiled(at: int) -> bytes:
    content = bytearray(header_to_bytes(HEADER))
    content[at % len(content)] ^= 1
    return bytes(content)


@given(st.binary(max_size=400) | st.integers(0, 400).map(spoiled))
def test_no_bytes_but_a_header_are_a_header(content: bytes) -> None:
    with pytest.raises(ContentMismatch, match="is damaged"):
        header_from_bytes(content)


def test_a_volume_folder_that_cannot_be_looked_at_is_unreadable(
    volumes: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(volumes[0])
    monkeypatch.setattr(Path, "lstat", failing)

    with pytest.raises(MediaMissing, match="volume could not be read"):
        read_header(bundle)


def failing(*_: object) -> None:
    raise OSError(5, "Input/output error")


def test_no_medium_is_none() -> None:
    with pytest.raises(MediaMissing, match="no medium was named"):
        open_media([])


def test_a_volume_with_two_manifests_is_refused(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    odd = copied(volumes[0], tmp_path / "odd")
    (odd / "targets" / f"{'ab' * 32}.release.json").write_bytes(b"{}")

    with pytest.raises(ContentMismatch, match="2 manifests instead of one"):
        open_media([odd])


def test_a_header_about_another_release_is_not_used(
    volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path
) -> None:
    odd = copied(volumes[0], tmp_path / "odd")
    header = read_header(open_bundle(odd))
    assert header is not None
    (odd / "volume/header.json").write_bytes(header_to_bytes(replace(header, release="ab" * 32)))

    slot = take(site, odd, *volumes[1:5])

    assert same_as_signed(slot, release)


def test_metadata_that_is_bad_on_every_volume_is_refused(volumes: tuple[Path, ...], site: Site, tmp_path: Path) -> None:
    bad = [copied(volume, tmp_path / volume.name) for volume in volumes[:2]]
    for volume in bad:
        flip_bit(volume / "metadata/1.targets.json", 200)

    with pytest.raises((SignatureRefused, ContentMismatch)):
        open_media(bad).check(site.trust, now=NOW)


def test_a_cell_that_turns_out_bad_counts_as_lost(
    volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path
) -> None:
    bad = copied(volumes[3], tmp_path / "bad")
    flip_bit(max((bad / "blobs").iterdir(), key=lambda path: path.stat().st_size), 77)
    fifo = copied(volumes[6], tmp_path / "fifo")
    replace_by_fifo(fifo / "volume/parity.000")

    with pytest.raises(VolumesMissing):
        take(site, *volumes[:2], bad, volumes[4], fifo, volumes[5])
    slot = take(site, *volumes[:2], bad, *volumes[4:])

    assert same_as_signed(slot, release)


def test_a_row_with_too_few_cells_is_not_computed() -> None:
    with pytest.raises(ValueError, match="2 cells are lost and 1 parity cells"):
        recipe(0, [1], [0], [2])
    with pytest.raises(ValueError, match="do not fit into 255 cells"):
        coefficient(200, 100)


@given(st.data())
def test_any_lost_cells_are_found_from_as_many_parity_cells(data: st.DataObject) -> None:
    cells = data.draw(st.lists(st.binary(min_size=0, max_size=40), min_size=1, max_size=12))
    parity = data.draw(st.integers(1, 6))
    lost = data.draw(st.sets(st.integers(0, len(cells) - 1), min_size=1, max_size=min(parity, len(cells))))
    used = data.draw(st.permutations(range(parity)).map(lambda order: order[: len(lost)]))
    size = max(map(len, cells))
    made = {number: total(size, {at: coefficient(number, at) for at in range(len(cells))}, cells) for number in used}

    for one in lost:
        others, kept = sorted(lost - {one}), [at for at in range(len(cells)) if at not in lost]
        found = total(size, recipe(one, others, used, kept), cells, made)
        assert found[: len(cells[one])] == cells[one]
        assert not any(found[len(cells[one]) :])


def total(size: int, factors: object, cells: list[bytes], parity: dict[int, bytes] | None = None) -> bytes:
    assert isinstance(factors, dict)
    combination = Combination(size)
    for number, factor in factors.items():
        combination.add(factor, cells[number] if number >= 0 else (parity or {})[-1 - number])
    return combination.content()


def test_wrong_bytes_that_were_kept_are_forgotten_and_wanted_again(
    volumes: tuple[Path, ...], release: Release, site: Site
) -> None:
    with pytest.raises(VolumesMissing):
        take(site, *volumes[:4])
    entry = release.file(SHARD)
    flip_bit(site.folder / "staging" / f"{entry.sha256}.partial", 5)

    with pytest.raises(VolumesMissing) as wanted:
        take(site, volumes[4])
    slot = take(site, *volumes[2:4])

    assert wanted.value.detail.startswith("still to come: volume 3 of 7")
    assert same_as_signed(slot, release)


def test_what_was_kept_and_fails_to_read_is_like_what_is_not_there(
    bundle: Path, release: Release, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(site, bundle)
    kept = Kept(store=Store(site.folder / "store" / "sha256"), staging=site.folder / "staging")
    leaf = Leaf(entry=release.file(SHARD), number=1)
    blobs = MediaBlobs(open_media([bundle]).volumes, release.files, kept=kept)
    monkeypatch.setattr("bundles.media.kept.read_into", failing)

    assert kept.has(leaf.entry, 1)
    assert sha256_hex(blobs.sound(leaf) or b"") == leaf.sha256


def test_a_leaf_in_a_hole_of_a_staged_file_is_not_there(release: Release, tmp_path: Path) -> None:
    entry = release.file(SHARD)
    kept = Kept(store=Store(tmp_path / "store"), staging=tmp_path)
    with (tmp_path / f"{entry.sha256}.partial").open("wb") as stream:
        stream.seek(LEAF_BYTES)
        stream.write(os.urandom(LEAF_BYTES))
        stream.truncate(entry.size_bytes)

    assert [kept.has(entry, number) for number in range(3)] == [False, True, False]
    assert not kept.read(release.file("playbooks/site.yml"), 0, memoryview(bytearray(1)))


def test_names_that_are_no_pieces_are_not_signed(bundle: Path, release: Release, tmp_path: Path) -> None:
    odd = copied(bundle, tmp_path / "odd")
    shard = release.file(SHARD).sha256
    names = [f"{shard}.p000.002-001", f"{shard}.p000.001-003", f"{shard}.p000.000-002", f"{shard}.p001", "x"]
    for name in names:
        (odd / "blobs" / name).touch()
    (odd / "blobs" / f"{shard}.p000.000-000").write_bytes(bytes(LEAF_BYTES + 1))

    found = MediaBlobs(open_media([odd]).volumes, release.files).compare(release.files)

    assert set(found.extra) == {f"blobs/{name}" for name in [*names, f"{shard}.p000.000-000"]}
    assert not found.missing


def test_a_piece_that_vanishes_while_it_is_looked_at_is_not_there(
    bundle: Path, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = copied(bundle, tmp_path / "odd")
    media = open_media([odd])
    gone = max((odd / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    names = type(media.bundle).names
    listed = names(media.bundle, "blobs")
    gone.unlink()
    monkeypatch.setattr(type(media.bundle), "names", lambda *_: listed)

    blobs = MediaBlobs(media.volumes, release.files)
    monkeypatch.undo()

    assert blobs.compare(release.files).missing == (SHARD,)
    with blobs.opened(release.file(SHARD)) as opened, pytest.raises(ContentMismatch, match="leaf 0 of 3"):
        opened.fill(0, memoryview(bytearray(LEAF_BYTES)))


def test_a_truncated_piece_gives_the_leaves_that_it_has(bundle: Path, release: Release, tmp_path: Path) -> None:
    odd = copied(bundle, tmp_path / "odd")
    with (odd / "blobs" / f"{release.file(SHARD).sha256}.p000").open("r+b") as stream:
        stream.truncate(2 * LEAF_BYTES - 1)

    found = MediaBlobs(open_media([odd]).volumes, release.files).compare(release.files)

    assert [(one.path, one.leaves) for one in found.corrupt] == [(SHARD, (1, 2))]


def test_only_pieces_are_opened() -> None:
    with pytest.raises(KeyError):
        reader._Descriptors(stack=None)["x"]  # type: ignore[arg-type]  # it is not reached


def test_bootstrap_goes_onto_every_volume(bundle: Path, tmp_path: Path) -> None:
    with_script = copied(bundle, tmp_path / "bundle")
    (with_script / "bootstrap").write_bytes(b"#!/bin/sh\n")
    layout = lay_out(open_media([with_script]), volume_bytes=40_000_000)

    write_volume(layout, layout.headers[1], tmp_path / "stick")

    assert (tmp_path / "stick/bootstrap").read_bytes() == b"#!/bin/sh\n"


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json"])
def test_metadata_that_rotted_on_one_volume_is_taken_from_the_next(
    volumes: tuple[Path, ...], site: Site, tmp_path: Path, name: str
) -> None:
    bad = copied(volumes[0], tmp_path / "volume-01")
    (bad / "metadata" / name).write_bytes(b"\x00" * 40)

    verified = open_media([bad, volumes[1]]).check(site.trust, now=NOW)

    assert verified.release.epoch == 1


def test_parity_whose_header_lies_is_not_tried_in_every_combination(
    volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = []
    for volume in volumes[5:]:
        lying = copied(volume, tmp_path / volume.name)
        flip_bit(lying / "volume/parity.000", 5)
        header = read_header(open_bundle(lying))
        assert header is not None
        first = sha256_hex((lying / "volume/parity.000").read_bytes()[: plan(release.files, 5).row_bytes(0)])
        digests = (first, *header.digests[1:])
        (lying / "volume/header.json").write_bytes(header_to_bytes(replace(header, digests=digests)))
        forged.append(lying)
    computed = []
    compute = Mender._computed

    def counted(*arguments: Any) -> bytes:  # noqa: ANN401  handed on as they are
        computed.append(arguments[2])
        return compute(*arguments)

    monkeypatch.setattr(Mender, "_computed", counted)
    monkeypatch.setattr(mend, "MOST_WRONG", 1)

    with pytest.raises(VolumesMissing):
        take(site, *volumes[1:5], *forged)

    of_row = [place for place in computed if place.row == 0]
    assert 0 < len(of_row) <= sum(len(plan(release.files, 5).cell(place)) for place in set(of_row))
    assert site.slots() == []
