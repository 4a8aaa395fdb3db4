"""The bounds and corners of readers and writers: what is too much, missing, or of no place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from bundles import bootstrap, codec, layout, manifest, release, safetensors
from bundles.codec import CodecError
from bundles.digest import EMPTY_SHA256
from bundles.errors import (
    ContentMismatch,
    LeewardError,
    MediaMissing,
    OutputOccupied,
    RecipeInvalid,
    ReleaseInvalid,
    SourceFailed,
)
from bundles.keys import Keyring
from bundles.layout import BLOBS, METADATA, TARGETS, manifest_bytes, open_bundle, peek, read_at
from bundles.publish import publish
from bundles.recipe import load_recipe
from bundles.release import FileEntry, Release, release_to_bytes
from tests.support.small_bundles import NOW, blank_release, safetensors_bytes, tree

TINY = (Path(__file__).parents[3] / "bundles/recipes/tiny.toml").read_bytes()


@pytest.fixture
def small(medium: Path) -> Release:
    return peek(open_bundle(medium))


def refused(kind: type[LeewardError], told: str) -> pytest.RaisesExc[LeewardError]:
    """Expect an error of this kind whose detail holds the words."""
    return pytest.RaisesExc(kind, check=lambda error: told in error.detail)


# -- manifest, release, codec, safetensors -------------------------------------------------------


def test_more_paths_than_a_release_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_FILES", 2)

    with refused(ReleaseInvalid, "more than 2 files"):
        manifest.check_paths(["a", "b", "c"])


def test_more_tensors_than_a_file_may_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 0)
    content = safetensors_bytes(b"x")

    with refused(ReleaseInvalid, "it names 1 tensors"):
        safetensors.read_header("w.safetensors", len(content), lambda offset, size: content[offset : offset + size])


def test_an_entry_that_is_not_there_is_a_key_error(small: Release) -> None:
    with pytest.raises(KeyError):
        small.file("nowhere")


def test_a_manifest_that_grew_too_large_is_not_written(small: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "MAX_RELEASE_BYTES", 100)

    with refused(ReleaseInvalid, "100 are allowed"):
        release_to_bytes(small)


def test_a_release_is_dated_in_utc(small: Release) -> None:
    with refused(ReleaseInvalid, "created_at is not in UTC"):
        release_to_bytes(replace(small, created_at=NOW.astimezone(timezone(timedelta(hours=1)))))


def entry(path: str, **changes: object) -> FileEntry:
    return replace(FileEntry(path=path, size_bytes=1, sha256="a" * 64, leaves=("a" * 64,)), **changes)  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ((entry("a"), entry("b", size_bytes=release.LEAF_BYTES + 1, leaves=("b" * 64,) * 2)), "one SHA-256 but"),
        ((entry("a", leaves=("b" * 64,)),), "one leaf, but its digest"),
        ((entry("a", size_bytes=0, leaves=()),), "is empty, but its digest"),
    ],
)
def test_a_files_digest_its_leaves_and_its_size_agree(small: Release, files: tuple[FileEntry, ...], told: str) -> None:
    with refused(ReleaseInvalid, told):
        release_to_bytes(replace(small, files=files))


def test_a_pair_without_files_of_one_half_is_refused(small: Release) -> None:
    files = tuple(one for one in small.files if not one.path.startswith("weights/draft/"))

    with refused(ReleaseInvalid, "there is no draft head"):
        release_to_bytes(replace(small, files=files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    table: Mapping[str, object]
    share: float
    at: datetime


def test_the_codec_reads_tables_whole_numbers_as_floats_and_tomls_own_times() -> None:
    plain = {"table": {"a": 1}, "share": 1, "at": NOW.astimezone(timezone(timedelta(hours=2)))}

    read = codec.from_plain(plain, Sample)

    assert read == Sample(table={"a": 1}, share=1.0, at=NOW)
    assert type(read.share) is float
    assert read.at.tzinfo is UTC
    with pytest.raises(CodecError, match="table must be a table"):
        codec.from_plain({**plain, "table": []}, Sample)


# -- recipe ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        (b"#" * 2_000_000, "larger than"),
        (TINY.replace(b"leeward-recipe/1", b"leeward-recipe/9"), "schema is 'leeward-recipe/9'"),
    ],
)
def test_a_recipe_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)

    with refused(RecipeInvalid, told):
        load_recipe(path)


# -- publish and output --------------------------------------------------------------------------


def test_a_release_without_params_is_refused(tmp_path: Path) -> None:
    files = {path: content for path, content in tree().items() if path != "weights/draft/params.json"}

    with refused(ReleaseInvalid, "weights/draft/params.json is missing"):
        publish(files, blank_release(), Keyring.create(tmp_path / "keys", now=NOW), out=tmp_path / "out", now=NOW)

    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    with refused(OutputOccupied, "is not a folder"):
        publish(tree(), blank_release(), Keyring.create(tmp_path / "keys", now=NOW), out=tmp_path / "out", now=NOW)

    assert (tmp_path / "out").read_text() == "mine"


# -- layout --------------------------------------------------------------------------------------


def test_what_is_no_medium_says_what_is_missing(tmp_path: Path, medium: Path) -> None:
    with refused(MediaMissing, "is not a folder"):
        open_bundle(tmp_path / "nothing")
    (medium / METADATA / "timestamp.json").unlink()
    with refused(MediaMissing, "holds no metadata/timestamp.json"):
        open_bundle(medium)


def test_a_medium_with_no_manifest_or_a_misnamed_one_is_refused(medium: Path) -> None:
    bundle = open_bundle(medium)
    (named,) = (medium / TARGETS).iterdir()
    named.rename(medium / TARGETS / f"{'0' * 64}.release.json")
    with refused(ContentMismatch, "does not have the digest in its name"):
        manifest_bytes(bundle)
    (medium / TARGETS / f"{'0' * 64}.release.json").unlink()
    with refused(ContentMismatch, "holds 0 manifests"):
        manifest_bytes(bundle)


@pytest.mark.parametrize(("folder", "name"), [("etc", "passwd"), (BLOBS, ".."), (BLOBS, "a/b"), (BLOBS, "a\0b")])
def test_a_name_that_is_no_place_on_a_medium_is_never_opened(medium: Path, folder: str, name: str) -> None:
    with refused(ContentMismatch, "is not a place on a medium"), open_bundle(medium).open(folder, name):
        pass


def test_a_medium_that_fails_while_it_is_read_says_so(medium: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(medium)

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(layout.os, "listdir", fail)
    with refused(MediaMissing, "blobs/ could not be read: Input/output error"):
        bundle.names(BLOBS)
    monkeypatch.setattr(layout.os, "pread", fail)
    with refused(MediaMissing, "x could not be read"):
        read_at(0, 1, 0, "x")


def test_a_file_exchanged_for_a_pipe_between_the_look_and_the_opening_is_refused(
    medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(medium)
    name = bundle.names(BLOBS)[0]
    regular = (medium / BLOBS / name).stat()
    (medium / BLOBS / name).unlink()
    os.mkfifo(medium / BLOBS / name)
    real = os.stat
    monkeypatch.setattr(layout.os, "stat", lambda path, **how: regular if path == name else real(path, **how))

    with refused(ContentMismatch, "is not a regular file"), bundle.open(BLOBS, name):
        pass


# -- the day-0 script ----------------------------------------------------------------------------


def test_the_day_0_script_takes_no_name_that_a_shell_could_read(small: Release) -> None:
    with refused(RecipeInvalid, "that the day-0 script does not take"):
        bootstrap.render(replace(small, name="a;b"), b"{}")
    with refused(RecipeInvalid, "holds no appliance/wheels/leeward-"):
        bootstrap.render(small, b"{}")


def test_the_digest_of_no_bytes_is_what_an_empty_file_has(small: Release) -> None:
    assert small.file("playbooks/roles/empty/tasks/main.yml").sha256 == EMPTY_SHA256


def test_a_file_that_shrinks_while_it_is_published_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, content in tree().items():
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).write_bytes(content)
    keyring = Keyring.create(tmp_path / "keys", now=NOW)
    monkeypatch.setattr("bundles.publish.read_into", lambda *_: 0)

    with refused(SourceFailed, "changed while it was read"):
        publish(tmp_path / "tree", blank_release(), keyring, out=tmp_path / "out", now=NOW)

    assert not (tmp_path / "out").exists()
