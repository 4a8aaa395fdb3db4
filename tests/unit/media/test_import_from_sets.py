from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bundles.errors import ContentMismatch, VolumeForeign, VolumesMissing, VolumeUnfinished
from bundles.keys import Keyring
from bundles.layout import open_bundle
from bundles.media.header import header_to_bytes, read_header
from bundles.release import LEAF_BYTES, Release
from tests.support.small_bundles import tree, write_bundle
from tests.unit.bundles.site import Site, flip_bit
from tests.unit.media.reading import copied, same_as_signed, take

SHARD = "weights/target/consolidated.safetensors"


def largest(volume: Path) -> Path:
    return max((volume / "blobs").iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 3, 1)], ids=["in order", "in any order"])
def test_volumes_go_one_after_another_through_one_port(
    order: tuple[int, ...], volumes: tuple[Path, ...], release: Release, site: Site
) -> None:
    still = set(range(1, 6))
    for number in order[:-1]:
        still.discard(number + 1)
        with pytest.raises(VolumesMissing) as wanted:
            take(site, volumes[number])
        named = wanted.value.detail.split(";")[0]
        assert {int(word) for word in named.replace("volume", "").split() if word.isdigit() and int(word) < 6} == still
        assert site.slots() == []
        assert site.policy is None

    slot = take(site, volumes[order[-1]])

    assert same_as_signed(slot, release)


def test_what_was_taken_from_a_volume_is_not_read_from_it_again(
    volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path
) -> None:
    with pytest.raises(VolumesMissing):
        take(site, volumes[0], volumes[1], volumes[2])
    husk = copied(volumes[1], tmp_path / "husk")
    for blob in (husk / "blobs").iterdir():
        size = blob.stat().st_size
        blob.write_bytes(b"")
        with blob.open("r+b") as stream:
            stream.truncate(size)  # the right names and sizes, and nothing in them

    slot = take(site, husk, volumes[3], volumes[4])

    assert same_as_signed(slot, release)


def test_parity_mends_from_volumes_that_were_taken_before(
    volumes: tuple[Path, ...], release: Release, site: Site
) -> None:
    for number in (0, 2, 4):
        with pytest.raises(VolumesMissing):
            take(site, volumes[number])

    slot = take(site, volumes[5], volumes[6])

    assert same_as_signed(slot, release)


def test_a_bad_leaf_is_mended_from_one_parity_volume(
    volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path
) -> None:
    damaged = [copied(volume, tmp_path / volume.name) for volume in volumes[:6]]
    for volume in damaged[2:4]:
        flip_bit(largest(volume), 1000)

    with pytest.raises(VolumesMissing) as refused:  # both leaves are of one row, and one parity volume is here
        take(site, *damaged)
    slot = take(site, *damaged, volumes[6])

    assert "parity can stand in: volume 7 of 7" in refused.value.detail
    assert same_as_signed(slot, release)


def test_rotten_parity_is_not_used(volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path) -> None:
    rotten = copied(volumes[5], tmp_path / "parity")
    flip_bit(rotten / "volume/parity.000", 5)

    slot = take(site, *volumes[:4], rotten, volumes[6])

    assert same_as_signed(slot, release)


def test_a_truncated_volume_is_named_with_what_it_lacks(volumes: tuple[Path, ...], site: Site, tmp_path: Path) -> None:
    short = copied(volumes[3], tmp_path / "short")
    with largest(short).open("r+b") as stream:
        stream.truncate(100)

    with pytest.raises(VolumesMissing) as refused:
        take(site, *volumes[:3], short, volumes[4])

    assert "volume 4 of 7" in refused.value.detail
    assert "1 of its 1 leaves are damaged" in refused.value.detail
    assert site.slots() == []


def test_the_same_volume_twice_does_no_harm(volumes: tuple[Path, ...], release: Release, site: Site) -> None:
    slot = take(site, volumes[4], *volumes[:5], volumes[0])

    assert same_as_signed(slot, release)


def test_a_volume_of_another_release_is_refused_by_name(
    volumes: tuple[Path, ...], keyring: Keyring, site: Site, tmp_path: Path
) -> None:
    other = write_bundle(tmp_path / "other", keyring, files=tree(seed=9)).folder

    with pytest.raises(VolumeForeign, match="carries release"):
        take(site, *volumes[:4], other)

    assert site.stored() == []


def test_a_volume_that_was_not_finished_is_refused(volumes: tuple[Path, ...], site: Site, tmp_path: Path) -> None:
    cut = copied(volumes[0], tmp_path / "cut")
    (cut / "volume/header.json").rename(cut / "volume/header.partial")

    with pytest.raises(VolumeUnfinished, match=r"without volume/header\.json"):
        take(site, cut, *volumes[1:])

    assert site.stored() == []


def test_a_volume_whose_header_rotted_still_gives_its_pieces(
    volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path
) -> None:
    rotten = copied(volumes[1], tmp_path / "rotten")
    flip_bit(rotten / "volume/header.json", 40)

    slot = take(site, volumes[0], rotten, *volumes[2:5])

    assert same_as_signed(slot, release)


def test_metadata_that_rotted_on_the_first_volume_is_taken_from_the_next(
    volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path
) -> None:
    rotten = copied(volumes[0], tmp_path / "rotten")
    flip_bit(rotten / "metadata/1.targets.json", 200)

    slot = take(site, rotten, *volumes[1:5])

    assert same_as_signed(slot, release)


def test_a_name_that_nobody_signed_is_refused(volumes: tuple[Path, ...], site: Site, tmp_path: Path) -> None:
    odd = copied(volumes[0], tmp_path / "odd")
    (odd / "blobs/surprise").write_bytes(b"?")

    with pytest.raises(ContentMismatch, match="not signed: blobs/surprise"):
        take(site, odd, *volumes[1:5])

    assert site.stored() == []


def test_a_header_that_lies_about_its_set_leads_to_no_wrong_bytes(
    volumes: tuple[Path, ...], site: Site, tmp_path: Path
) -> None:
    liar = copied(volumes[5], tmp_path / "liar")
    header = read_header(open_bundle(liar))
    assert header is not None
    (liar / "volume/header.json").write_bytes(header_to_bytes(replace(header, number=4, data=3, parity=2)))

    with pytest.raises(VolumesMissing):
        take(site, *volumes[:4], liar)

    assert site.slots() == []


def test_damage_on_a_plain_bundle_names_every_leaf_and_keeps_the_rest(
    bundle: Path, release: Release, site: Site, tmp_path: Path
) -> None:
    plain = copied(bundle, tmp_path / "plain")
    flip_bit(largest(plain), 3)
    flip_bit(largest(plain), 2 * LEAF_BYTES + 3)

    with pytest.raises(ContentMismatch) as refused:
        take(site, plain)

    assert f"damaged: {SHARD} (leaf 0, 2)" in refused.value.detail
    assert len(site.stored()) == len({entry.sha256 for entry in release.files}) - 1
    assert site.slots() == []


def test_two_damaged_copies_make_a_whole_one(bundle: Path, release: Release, site: Site, tmp_path: Path) -> None:
    one, other = copied(bundle, tmp_path / "one"), copied(bundle, tmp_path / "other")
    flip_bit(largest(one), 3)
    flip_bit(largest(other), 2 * LEAF_BYTES + 3)

    slot = take(site, one, other)

    assert same_as_signed(slot, release)
