"""Whatever two shards hold, a delta from one to the other gives exactly the other."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bundles.delta.rebuild import open_delta
from bundles.delta.take import take_inventory
from bundles.delta.write import write_delta
from bundles.digest import sha256_hex
from bundles.layout import BLOBS, FOLDERS, RELEASE_SUFFIX, TARGETS, Bundle
from bundles.release import BundleKind, FileEntry, Release, release_to_bytes
from tests.support.small_bundles import NOW
from tests.unit.delta.weights import noise, safetensors_file

PATH = "evidence/consolidated.safetensors"
TENSORS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3), st.integers(0, 400)), max_size=8)


def shard(tensors: list[tuple[str, int, int]]) -> bytes:
    """Return a shard in which a tensor's bytes follow from its letter, version and length."""
    return safetensors_file({f"{letter}{at}": noise(letter + str(v), n) for at, (letter, v, n) in enumerate(tensors)})


def entry_of(content: bytes) -> FileEntry:
    return FileEntry(path=PATH, size_bytes=len(content), sha256=sha256_hex(content), leaves=(sha256_hex(content),))


def release_of(content: bytes, epoch: int) -> bytes:
    return release_to_bytes(
        Release(
            kind=BundleKind.EVIDENCE,
            name="any",
            version=str(epoch),
            epoch=epoch,
            rollback_floor=1,
            created_at=NOW,
            files=(entry_of(content),),
            licenses=(),
            pair=None,
            engine=None,
            requirements=None,
        )
    )


def installed(folder: Path, content: bytes) -> None:
    """Lay out the store and the slot of a node that has `content`."""
    digest = sha256_hex(content)
    place = folder / "store" / "sha256" / digest[:2] / digest
    slot = folder / "slots" / "1-e1"
    for parent in (place.parent, slot):
        parent.mkdir(parents=True)
    place.write_bytes(content)
    (slot / "release.json").write_bytes(release_of(content, 1))


def bundle_of(folder: Path, content: bytes) -> Bundle:
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    (folder / BLOBS / f"{sha256_hex(content)}.p000").write_bytes(content)
    manifest = release_of(content, 2)
    (folder / TARGETS / f"{sha256_hex(manifest)}{RELEASE_SUFFIX}").write_bytes(manifest)
    return Bundle(folder)


@given(old=TENSORS, new=TENSORS)
@settings(max_examples=25, deadline=None)
def test_a_delta_rebuilds_any_shard_from_any_other(
    old: list[tuple[str, int, int]], new: list[tuple[str, int, int]]
) -> None:
    before, after = shard(old), shard(new)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        installed(folder, before)
        inventory = take_inventory(store=folder / "store", slots=folder / "slots", node="n", now=NOW)

        report = write_delta(bundle_of(folder / "bundle", after), inventory, out=folder / "delta")

        blobs = open_delta(Bundle(folder / "delta"), folder / "store")
        assert blobs is not None
        assert not blobs.compare([entry_of(after)])
        rebuilt = bytearray(len(after))
        with blobs.opened(entry_of(after)) as reader:
            reader.fill(0, memoryview(rebuilt))
        assert bytes(rebuilt) == after
        known = {(letter, version, length) for letter, version, length in old}
        unchanged = sum(length for tensor in new if tensor in known and (length := tensor[2]) >= 128)
        assert report.carried_bytes <= len(after) - unchanged
