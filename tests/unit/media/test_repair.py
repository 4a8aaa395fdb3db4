from __future__ import annotations

from pathlib import Path

import pytest

from bundles.digest import sha256_hex
from bundles.errors import ContentMismatch, RepairRequestInvalid, VolumeForeign
from bundles.keys import Keyring
from bundles.layout import manifest_bytes, open_bundle
from bundles.media.kept import Kept
from bundles.media.opening import open_media
from bundles.media.plan import Leaf, unique_files
from bundles.media.request import leaves_to_request, request_text, requested_leaves
from bundles.media.split import write_repair
from bundles.release import LEAF_BYTES, Release
from bundles.store import Store
from tests.support.small_bundles import tree, write_bundle
from tests.unit.bundles.site import Site, flip_bit
from tests.unit.media.reading import copied, same_as_signed, take

SHARD = "weights/target/consolidated.safetensors"


@pytest.fixture
def damaged(bundle: Path, tmp_path: Path) -> Path:
    """The bundle with two bad leaves of its largest file."""
    copy = copied(bundle, tmp_path / "damaged")
    shard = max((copy / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    flip_bit(shard, 3)
    flip_bit(shard, 2 * LEAF_BYTES + 3)
    return copy


@pytest.fixture
def repair(bundle: Path, damaged: Path, release: Release, tmp_path: Path) -> Path:
    """A repair volume, made from what the damaged medium's request says."""
    digest = sha256_hex(manifest_bytes(open_bundle(bundle)))
    line = request_text(leaves_to_request(open_media([damaged]), release), release, digest)
    out = tmp_path / "repair"
    write_repair(open_media([bundle]), requested_leaves(line, release, digest), out)
    return out


def test_a_request_names_the_bad_leaves_and_no_others(damaged: Path, release: Release) -> None:
    leaves = leaves_to_request(open_media([damaged]), release)

    assert [(leaf.entry.path, leaf.number) for leaf in leaves] == [(SHARD, 0), (SHARD, 2)]


def test_a_repair_volume_holds_only_what_was_asked_for(repair: Path, release: Release) -> None:
    entry = release.file(SHARD)

    names = sorted(path.name for path in (repair / "blobs").iterdir())

    assert names == [f"{entry.sha256}.p000.000-000", f"{entry.sha256}.p000.002-002"]
    assert (repair / "metadata/timestamp.json").is_file()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_repair_volume_is_taken_together_with_the_damaged_medium(
    order: tuple[int, int], damaged: Path, repair: Path, release: Release, site: Site
) -> None:
    media = (damaged, repair)

    slot = take(site, *(media[number] for number in order))

    assert same_as_signed(slot, release)


def test_a_repair_volume_is_taken_after_the_damaged_medium(
    damaged: Path, repair: Path, release: Release, site: Site
) -> None:
    with pytest.raises(ContentMismatch, match="All else was verified and is kept"):
        take(site, damaged)

    slot = take(site, repair)

    assert same_as_signed(slot, release)


def test_a_repair_volume_alone_says_what_else_is_missing(repair: Path, site: Site) -> None:
    with pytest.raises(ContentMismatch) as refused:
        take(site, repair)

    assert "missing: " in refused.value.detail
    assert f"damaged: {SHARD} (leaf 1)" in refused.value.detail
    assert site.stored() == []


def test_what_the_node_kept_is_not_asked_for(damaged: Path, release: Release, site: Site) -> None:
    with pytest.raises(ContentMismatch):
        take(site, damaged)
    kept = Kept(store=Store(site.folder / "store" / "sha256"), staging=site.folder / "staging")
    for blob in (damaged / "blobs").iterdir():
        blob.unlink()

    leaves = leaves_to_request(open_media([damaged]), release, kept=kept)

    assert [(leaf.entry.path, leaf.number) for leaf in leaves] == [(SHARD, 0), (SHARD, 2)]


def test_what_parity_mends_and_what_is_to_come_is_not_asked_for(
    volumes: tuple[Path, ...], release: Release, tmp_path: Path
) -> None:
    bad = copied(volumes[2], tmp_path / "bad")
    flip_bit(max((bad / "blobs").iterdir(), key=lambda path: path.stat().st_size), 1)

    mended = leaves_to_request(open_media([*volumes[:2], bad, *volumes[3:6]]), release)
    alone = leaves_to_request(open_media([bad]), release)

    assert mended == ()
    assert len(alone) == 1


def test_a_request_survives_the_way_as_text(release: Release) -> None:
    leaves = [
        Leaf(entry=entry, number=number) for entry in unique_files(release.files) for number in range(len(entry.leaves))
    ]

    line = request_text(reversed(leaves), release, "ab" * 32)

    assert set(line) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
    assert requested_leaves(f"{line}\n", release, "ab" * 32) == tuple(leaves)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda line: line.replace(":", "."), "undamaged line"),
        (lambda line: line[:-1], "undamaged line"),
        (lambda _: "", "undamaged line"),
        (lambda _: "X" * 2_000_000, "undamaged line"),
        (lambda _: checked("LEEWARD-REPAIR/1"), r"about the release \?"),
        (lambda line: checked(line.rpartition(" ")[0].replace("AB", "CD")), "about the release cdcd"),
        (lambda line: checked(f"{line.rpartition(' ')[0]} 99:1"), "names no file"),
        (lambda line: checked(f"{line.rpartition(' ')[0]} 0:7"), "names no leaves"),
        (lambda line: checked(f"{line.rpartition(' ')[0]} 0:0-"), "names no leaves"),
        (lambda line: checked(f"{line.rpartition(' ')[0]} 0:1-0"), "names no leaves"),
    ],
)
def test_a_damaged_or_foreign_request_is_refused(spoil: object, why: str, release: Release) -> None:
    line = request_text([Leaf(entry=release.file(SHARD), number=1)], release, "ab" * 32)
    assert callable(spoil)

    with pytest.raises(RepairRequestInvalid, match=why):
        requested_leaves(spoil(line), release, "ab" * 32)


def checked(line: str) -> str:
    return f"{line} {sha256_hex(line.encode())[:8].upper()}"


def test_a_repair_volume_for_another_bundle_is_refused(
    repair: Path, keyring: Keyring, site: Site, tmp_path: Path
) -> None:
    other = write_bundle(tmp_path / "other", keyring, files=tree(seed=3)).folder

    with pytest.raises(VolumeForeign):
        take(site, other, repair)

    assert site.stored() == []
