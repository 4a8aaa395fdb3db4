from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles.errors import (
    Canceled,
    ContentMismatch,
    OutputOccupied,
    StoreFull,
    StoreUnusable,
    VolumeForeign,
    VolumeTooSmall,
    VolumeUnfinished,
)
from bundles.keys import Keyring
from bundles.media.header import header_to_bytes, volume_label
from bundles.media.opening import open_media
from bundles.media.plan import LEAVES_PER_PART, Leaf, Piece, plan, plan_for, runs
from bundles.media.receipts import Act, ReceiptFolder
from bundles.media.split import Layout, lay_out, write_volume
from bundles.release import LEAF_BYTES, PART_BYTES, FileEntry
from tests.support.small_bundles import NOW, tree, write_bundle
from tests.unit.bundles.site import flip_bit
from tests.unit.media.conftest import VOLUME_BYTES
from tests.unit.media.reading import copied


@pytest.fixture(scope="session")
def layout(bundle: Path) -> Layout:
    return lay_out(open_media([bundle]), volume_bytes=VOLUME_BYTES, parity=2)


def content(volume: Path) -> dict[str, bytes]:
    return {path.relative_to(volume).as_posix(): path.read_bytes() for path in volume.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [2, 6], ids=["data", "parity"])
def test_a_volume_that_was_cut_off_is_gone_on_with(
    number: int, layout: Layout, volumes: tuple[Path, ...], tmp_path: Path
) -> None:
    header, out = layout.headers[number - 1], tmp_path / "stick"
    asked = iter([False] * (number // 2) + [True] * 100)
    with pytest.raises(Canceled):
        write_volume(layout, header, out, is_canceled=lambda: next(asked))

    with pytest.raises(VolumeUnfinished):
        open_media([out])
    assert (out / "READ-ME-FIRST.txt").read_text().startswith("THIS VOLUME IS UNFINISHED")
    write_volume(layout, header, out)

    assert content(out) == content(volumes[number - 1])


@pytest.mark.parametrize("number", [2, 6], ids=["data", "parity"])
def test_what_is_whole_is_not_written_again(
    number: int, layout: Layout, volumes: tuple[Path, ...], tmp_path: Path
) -> None:
    out = copied(volumes[number - 1], tmp_path / "stick")
    (out / "volume/header.json").unlink()
    (out / "volume/header.partial").write_bytes(unfinished_header(layout, number))
    held = {path: path.stat().st_ino for path in [*(out / "blobs").iterdir(), *(out / "volume").glob("parity.*")]}

    write_volume(layout, layout.headers[number - 1], out)

    assert {path: path.stat().st_ino for path in held} == held
    assert content(out) == content(volumes[number - 1])


@pytest.mark.parametrize("number", [1, 7], ids=["data", "parity"])
def test_a_whole_volume_is_left_alone(number: int, layout: Layout, volumes: tuple[Path, ...]) -> None:
    before = {path: path.stat().st_mtime_ns for path in volumes[number - 1].rglob("*")}

    write_volume(layout, layout.headers[number - 1], volumes[number - 1])

    assert {path: path.stat().st_mtime_ns for path in volumes[number - 1].rglob("*")} == before


def unfinished_header(layout: Layout, number: int) -> bytes:
    return header_to_bytes(layout.headers[number - 1])


def test_a_killed_split_leaves_no_volume_that_seems_whole(
    bundle: Path, volumes: tuple[Path, ...], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "bundles", "split", bundle, "--out", tmp_path / "set"]
    command += ["--volume-size", f"{VOLUME_BYTES // 1_000_000}MB", "--parity", "2"]
    for wait_s in (0.7, 0.9):
        running = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait_s)
        running.send_signal(signal.SIGKILL)
        running.wait()
        for folder in sorted((tmp_path / "set").glob("volume-*")):
            if (folder / "volume/header.json").exists():
                assert content(folder) == content(volumes[int(folder.name[-2:]) - 1])

    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)

    assert [content(folder) for folder in sorted((tmp_path / "set").iterdir())] == [content(one) for one in volumes]


def test_a_damaged_bundle_is_not_spread(bundle: Path, tmp_path: Path) -> None:
    damaged = copied(bundle, tmp_path / "damaged")
    flip_bit(max((damaged / "blobs").iterdir(), key=lambda path: path.stat().st_size), LEAF_BYTES + 1)
    layout = lay_out(open_media([damaged]), volume_bytes=VOLUME_BYTES, parity=1)

    with pytest.raises(ContentMismatch, match="leaf 1 of 3"):
        write_all(layout, tmp_path / "set")

    with pytest.raises(VolumeUnfinished):
        open_media([max((tmp_path / "set").iterdir())])


def write_all(layout: Layout, out: Path) -> None:
    for header in layout.headers:
        write_volume(layout, header, layout.folder(header, out))


def test_a_set_can_be_spread_again_over_other_volumes(bundle: Path, volumes: tuple[Path, ...], tmp_path: Path) -> None:
    layout = lay_out(open_media(volumes[2:]), volume_bytes=10**9)

    write_volume(layout, layout.headers[0], tmp_path / "one")

    assert len(layout.headers) == 1
    names = {path.name: path.read_bytes() for path in (tmp_path / "one/blobs").iterdir()}
    assert names == {path.name: path.read_bytes() for path in (bundle / "blobs").iterdir()}


def test_a_stick_with_another_volume_is_not_touched(layout: Layout, volumes: tuple[Path, ...], tmp_path: Path) -> None:
    stick = copied(volumes[0], tmp_path / "stick")
    before = content(stick)

    with pytest.raises(VolumeForeign, match="holds volume 1 of set"):
        write_volume(layout, layout.headers[1], stick)
    flip_bit(stick / "volume/header.json", 50)
    with pytest.raises(VolumeForeign, match="unreadable header"):
        write_volume(layout, layout.headers[0], stick)
    flip_bit(stick / "volume/header.json", 50)

    assert content(stick) == before


def test_a_folder_with_a_bundle_is_not_touched(layout: Layout, keyring: Keyring, tmp_path: Path) -> None:
    there = write_bundle(tmp_path / "there", keyring, files=tree()).folder
    before = content(there)

    with pytest.raises(OutputOccupied, match="metadata, targets, blobs"):
        write_volume(layout, layout.headers[0], there)

    assert content(there) == before


def test_a_stick_that_is_too_small_is_refused_before_content_is_written(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=5_000_000))

    with pytest.raises(StoreFull, match="has 5,000,000 free"):
        write_volume(layout, layout.headers[0], tmp_path / "stick")

    assert list((tmp_path / "stick/blobs").iterdir()) == []


@pytest.fixture
def small_stick(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system in memory")
    stick = tmp_path / "small"
    stick.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", stick], check=False)
    if made.returncode:
        pytest.skip("this machine mounts no tmpfs here")
    yield stick
    subprocess.run(["umount", stick], check=True)


def test_a_stick_that_fills_up_is_gone_on_with_when_there_is_room(
    layout: Layout, volumes: tuple[Path, ...], small_stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10**12)
    (small_stick / "other").write_bytes(bytes(15_000_000))
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(StoreFull, match="No space left"):
            write_volume(layout, layout.headers[1], small_stick)
    (small_stick / "other").unlink()

    write_volume(layout, layout.headers[1], small_stick)

    assert content(small_stick) == content(volumes[1])


def test_a_place_that_cannot_be_written_to_is_named(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreUnusable, match="file/stick"):
        write_volume(layout, layout.headers[0], tmp_path / "file/stick")


@pytest.mark.parametrize(("size", "parity"), [(1000, 0), (17_000_000, 0), (10**9, 255)])
def test_what_cannot_be_spread_is_refused_before_anything_is_written(size: int, parity: int, bundle: Path) -> None:
    with pytest.raises(VolumeTooSmall):
        lay_out(open_media([bundle]), volume_bytes=size, parity=parity)


def large_file(leaves: int, tail: int = 0) -> FileEntry:
    digests = tuple(f"{number:064x}" for number in range(leaves + bool(tail)))
    return FileEntry(path="weights/x", size_bytes=leaves * LEAF_BYTES + tail, sha256="ab" * 32, leaves=digests)


def test_no_piece_reaches_four_gibibytes_and_all_leaves_are_placed_once() -> None:
    entry = large_file(700, 5)

    found = plan([entry], 2)

    pieces = [piece for number in range(2) for piece in found.pieces(number)]
    assert [piece.name[64:] for piece in pieces] == [".p000", ".p001.000-094", ".p001.095-254", ".p002"]
    assert max(piece.size_bytes for piece in pieces) == PART_BYTES < 2**32
    assert sum(piece.size_bytes for piece in pieces) == entry.size_bytes
    assert [leaf.number for piece in pieces for leaf in piece.leaves] == list(range(701))
    assert max(place.offset + place.size_bytes for place in found.parity_places) <= PART_BYTES
    assert [place.name for place in found.parity_places[254:256]] == ["parity.000", "parity.001"]


def test_a_model_of_133_gigabytes_takes_five_sticks_of_32() -> None:
    files = [
        FileEntry(
            path=f"weights/{number:02}",
            size_bytes=5 * 10**9,
            sha256=f"{number:064x}",
            leaves=tuple(f"{number:02}{leaf:062x}" for leaf in range(-(-5 * 10**9 // LEAF_BYTES))),
        )
        for number in range(27)
    ]

    found = plan_for(files, volume_bytes=32 * 10**9, parity=2, reserved_bytes=50_000_000)

    sizes = [sum(piece.size_bytes for piece in found.pieces(number)) for number in range(found.data)]
    assert found.data == 5
    assert max(sizes) - min(sizes) < 200_000_000
    assert sum(place.size_bytes for place in found.parity_places) <= 32 * 10**9


def test_what_day_0_needs_lies_on_the_first_volume(layout: Layout) -> None:
    release = layout.source.release

    names = {piece.entry.path for piece in layout.plan.pieces(0)}

    assert {entry.path for entry in release.files if entry.path.startswith("os/debian-12/")} <= names


def test_names_and_labels_fit_a_fat_file_system() -> None:
    piece = Piece(entry=large_file(700), first=10, last=19)
    leaves = [Leaf(entry=large_file(2 * LEAVES_PER_PART), number=LEAVES_PER_PART - 1 + one) for one in range(2)]

    assert set(piece.name) <= set("0123456789abcdef.p-")
    assert len(piece.name) < 255
    assert [one.name[64:] for one in runs(leaves)] == [".p000.254-254", ".p001.000-000"]
    assert volume_label("ab" * 32, 99, 99) == "LW-ABAB-D99"
    assert volume_label("ab" * 32, 101, 99) == "LW-ABAB-P2"
    assert len(volume_label("ab" * 32, 0, 1)) <= 11


def test_a_plan_has_at_least_one_volume_and_at_most_255() -> None:
    for count in (0, 256):
        with pytest.raises(ValueError, match="not a number of volumes"):
            plan([], count)


@pytest.mark.parametrize("folder", ["blobs", "metadata", "volume"])
def test_a_stick_whose_folder_leads_elsewhere_is_not_written_to(folder: str, layout: Layout, tmp_path: Path) -> None:
    elsewhere, stick = tmp_path / "elsewhere", tmp_path / "stick"
    elsewhere.mkdir()
    stick.mkdir()
    (stick / folder).symlink_to(elsewhere)

    with pytest.raises(OutputOccupied) as caught:
        write_volume(layout, layout.headers[0], stick)

    assert folder in caught.value.detail
    assert list(elsewhere.iterdir()) == []
    assert [path.name for path in stick.iterdir()] == [folder]


def test_the_receipts_of_a_bundle_travel_on_every_volume_and_replace_none(tmp_path: Path, keyring: Keyring) -> None:
    medium = write_bundle(tmp_path / "bundle", keyring, files=tree()).folder
    chain = ReceiptFolder(medium / "receipts")
    chain.add(keyring, Act.BUILD, release="ab" * 32, by="Ada", place="", at=NOW)
    made = lay_out(open_media([medium]), volume_bytes=VOLUME_BYTES, parity=1)
    others = tmp_path / "volume-2/receipts/001-build.receipt.json"
    others.parent.mkdir(parents=True)
    others.write_bytes(b"was here before")

    for header in made.headers:
        write_volume(made, header, tmp_path / f"volume-{header.number}")

    assert len(made.headers) == 2
    assert (tmp_path / "volume-1/receipts/001-build.receipt.json").read_bytes() == chain.content(chain.names()[0])
    assert others.read_bytes() == b"was here before"


def test_receipts_are_written_through_no_link(tmp_path: Path, keyring: Keyring) -> None:
    medium = write_bundle(tmp_path / "bundle", keyring, files=tree()).folder
    ReceiptFolder(medium / "receipts").add(keyring, Act.BUILD, release="ab" * 32, by="Ada", place="", at=NOW)
    made = lay_out(open_media([medium]), volume_bytes=VOLUME_BYTES)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick/receipts").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OutputOccupied, match="receipts is a link"):
        write_volume(made, made.headers[0], tmp_path / "stick")

    assert not list((tmp_path / "elsewhere").iterdir())
