from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bundles import publish as publishing
from bundles.errors import Canceled, OutputOccupied, PairMismatch, ReleaseInvalid, SourceFailed, StoreFull
from bundles.keys import Keyring
from bundles.layout import open_bundle, peek
from bundles.publish import publish
from bundles.release import LEAF_BYTES
from bundles.verify import verify_content
from tests.support.small_bundles import NOW, blank_release, tree, write_bundle


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def on_disk(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def test_a_folder_and_the_same_files_in_memory_give_the_same_manifest(tmp_path: Path, keyring: Keyring) -> None:
    from_folder = publish(on_disk(tmp_path / "tree", tree()), blank_release(), keyring, out=tmp_path / "a", now=NOW)
    from_memory = publish(tree(), blank_release(), keyring, out=tmp_path / "b", now=NOW)

    assert from_folder.release == from_memory.release
    assert snapshot(tmp_path / "a" / "targets") == snapshot(tmp_path / "b" / "targets")


def test_the_report_says_what_was_written(tmp_path: Path, keyring: Keyring) -> None:
    report = write_bundle(tmp_path / "out", keyring)

    assert report.files == len(tree())
    assert report.size_bytes == sum(len(content) for content in snapshot(report.folder).values())
    assert report.sections["weights/draft"] == sum(len(c) for p, c in tree().items() if p.startswith("weights/draft/"))
    assert report.root_fingerprint == hashlib.sha256(keyring.roots()[0]).hexdigest()


def test_leaves_are_those_of_a_plain_reader(tmp_path: Path, keyring: Keyring) -> None:
    files = tree(shard_bytes=2 * LEAF_BYTES + 9)
    release = write_bundle(tmp_path / "out", keyring, files=files).release

    entry = release.file("weights/target/consolidated.safetensors")
    content = files[entry.path]
    expected = [hashlib.sha256(content[at : at + LEAF_BYTES]).hexdigest() for at in range(0, len(content), LEAF_BYTES)]
    assert list(entry.leaves) == expected
    assert entry.sha256 == hashlib.sha256(content).hexdigest()


def test_large_files_are_split_into_parts_that_come_together_again(
    tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("publish", "layout", "blobs"):
        monkeypatch.setattr(f"bundles.{module}.PART_BYTES", LEAF_BYTES)
    report = write_bundle(tmp_path / "out", keyring, files=tree(shard_bytes=2 * LEAF_BYTES))
    bundle = open_bundle(report.folder)

    assert sorted(name[-5:] for name in bundle.names("blobs") if not name.endswith("p000")) == [".p001", ".p002"]
    assert not verify_content(bundle, peek(bundle))


def test_an_existing_bundle_is_replaced_whole(tmp_path: Path, keyring: Keyring) -> None:
    write_bundle(tmp_path / "out", keyring)
    write_bundle(tmp_path / "out", keyring, release=blank_release(epoch=2), files=tree(seed=2))

    assert peek(open_bundle(tmp_path / "out")).epoch == 2
    assert not any(name.startswith(".") for name in names(tmp_path))


def test_a_folder_with_other_things_is_not_overwritten(tmp_path: Path, keyring: Keyring) -> None:
    out = tmp_path / "out"
    on_disk(out, {"thesis.txt": b"years of work"})

    with pytest.raises(OutputOccupied):
        write_bundle(out, keyring)

    assert snapshot(out) == {"thesis.txt": b"years of work"}


def test_a_draft_head_for_another_target_is_not_published(tmp_path: Path, keyring: Keyring) -> None:
    with pytest.raises(PairMismatch, match="dim"):
        write_bundle(tmp_path / "out", keyring, files=tree(dim=128))

    assert names(tmp_path) == ["keys"]


def test_an_unsound_safetensors_file_is_not_published(tmp_path: Path, keyring: Keyring) -> None:
    with pytest.raises(ReleaseInvalid, match="safetensors"):
        write_bundle(tmp_path / "out", keyring, files=tree() | {"weights/draft/x.safetensors": b"\xff" * 64})

    assert names(tmp_path) == ["keys"]


def test_a_link_in_the_tree_is_refused(tmp_path: Path, keyring: Keyring) -> None:
    folder = on_disk(tmp_path / "tree", tree())
    (folder / "playbooks/link.yml").symlink_to("/etc/passwd")

    with pytest.raises(SourceFailed):
        publish(folder, blank_release(), keyring, out=tmp_path / "out", now=NOW)

    assert not (tmp_path / "out").exists()


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = on_disk(tmp_path / "tree", tree())
    monkeypatch.setattr(
        publishing._Folder, "sizes", lambda _: {path: len(c) - 1 if c else 0 for path, c in tree().items()}
    )

    with pytest.raises((SourceFailed, ReleaseInvalid)):
        publish(folder, blank_release(), keyring, out=tmp_path / "out", now=NOW)

    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_METADATA_ROOM_BYTES", 1 << 60)

    with pytest.raises(StoreFull):
        write_bundle(tmp_path / "out", keyring)

    assert names(tmp_path) == ["keys"]


def test_stopping_leaves_the_old_bundle_as_it_was(tmp_path: Path, keyring: Keyring) -> None:
    write_bundle(tmp_path / "out", keyring)
    before = snapshot(tmp_path / "out")

    with pytest.raises(Canceled):
        publish(tree(seed=2), blank_release(epoch=2), keyring, out=tmp_path / "out", is_canceled=lambda: True, now=NOW)

    assert snapshot(tmp_path / "out") == before


_KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from bundles.keys import Keyring
from bundles.publish import publish
from tests.support.small_bundles import NOW, blank_release, tree
def progress(path, done, total):
    if done > 2000:
        os.kill(os.getpid(), signal.SIGKILL)
publish(tree(), blank_release(), Keyring.load(Path(sys.argv[1])), out=Path(sys.argv[2]), progress=progress, now=NOW)
"""


def test_a_killed_build_leaves_nothing_that_looks_whole_and_can_be_repeated(tmp_path: Path, keyring: Keyring) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_BUILD, str(keyring.directory), str(tmp_path / "out")], check=False
    )

    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    write_bundle(tmp_path / "out", keyring)
    assert names(tmp_path) == ["keys", "out"]


def test_a_build_killed_between_its_two_renames_loses_nothing(tmp_path: Path, keyring: Keyring) -> None:
    write_bundle(tmp_path / "out", keyring)
    (tmp_path / "out").rename(tmp_path / ".out.old")

    with pytest.raises(Canceled):
        publish(tree(), blank_release(), keyring, out=tmp_path / "out", is_canceled=lambda: True, now=NOW)

    assert peek(open_bundle(tmp_path / "out")).epoch == 1


def test_a_mount_point_itself_is_not_replaced(
    tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda _: True)

    with pytest.raises(OutputOccupied, match="is a mount point") as caught:
        write_bundle(tmp_path / "stick", keyring)

    assert str(tmp_path / "stick" / "leeward") in caught.value.remedy
    assert not (tmp_path / "stick").exists()


def test_a_bundle_among_other_things_is_not_replaced_with_them(tmp_path: Path, keyring: Keyring) -> None:
    out = tmp_path / "out"
    write_bundle(out, keyring)
    on_disk(out, {"thesis.txt": b"years of work"})
    before = snapshot(out)

    with pytest.raises(OutputOccupied) as caught:
        write_bundle(out, keyring, release=blank_release(epoch=2), files=tree(seed=2))

    assert "thesis.txt" in caught.value.detail
    assert snapshot(out) == before
    assert names(tmp_path) == ["keys", "out"]
