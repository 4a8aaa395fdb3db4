"""`leeward bundle extract`: what is signed as plain files, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundles import extract as extraction
from bundles.cli import bundle as commands
from bundles.keys import Keyring
from bundles.release import Release
from tests.support.small_bundles import NOW, tree, write_bundle
from tests.unit.bundles.site import blob_of, flip_bit

LICENSE = "licenses/target/LICENSE"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Keyring]:
    keys = Keyring.create_site(tmp_path_factory.mktemp("extract") / "keys", now=NOW)
    return write_bundle(tmp_path_factory.mktemp("extract") / "medium", keys).folder, keys


@pytest.fixture
def medium(written: tuple[Path, Keyring], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "medium"))


@pytest.fixture
def fingerprint(written: tuple[Path, Keyring]) -> str:
    return written[1].fingerprint


def extract(*media: Path, out: Path, fingerprint: str) -> Result:
    arguments = ["extract", *map(str, media), "--out", str(out), "--root-fingerprint", fingerprint]
    return CliRunner().invoke(commands, arguments)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_extracted_is_what_was_signed_and_nothing_else(medium: Path, fingerprint: str, tmp_path: Path) -> None:
    result = extract(medium, out=tmp_path / "out", fingerprint=fingerprint)

    assert result.exit_code == 0, result.output
    assert files(tmp_path / "out") == tree()
    assert result.output.splitlines()[-1].startswith(f"VERIFIED and written to {tmp_path / 'out'}: 8 files")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["medium", "out"]


def test_a_set_is_extracted_with_a_volume_that_is_missing(
    volumes: tuple[Path, ...], keyring: Keyring, release: Release, tmp_path: Path
) -> None:
    result = extract(*volumes[1:], out=tmp_path / "out", fingerprint=keyring.fingerprint)

    assert result.exit_code == 0, result.output
    assert {path: len(content) for path, content in files(tmp_path / "out").items()} == {
        entry.path: entry.size_bytes for entry in release.files
    }


@pytest.mark.parametrize("there", ["a file", "an empty folder", "a folder with files", "a dangling link"])
def test_nothing_is_overwritten(there: str, medium: Path, fingerprint: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if there == "a file":
        out.write_text("mine")
    elif there == "a dangling link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.mkdir()
        if there == "a folder with files":
            (out / "mine").write_text("mine")

    result = extract(medium, out=out, fingerprint=fingerprint)

    assert result.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["medium", "out"]
    assert not (out / LICENSE).exists()
    assert there != "a folder with files" or (out / "mine").read_text() == "mine"


def test_one_wrong_byte_leaves_nothing_behind(medium: Path, fingerprint: str, tmp_path: Path) -> None:
    flip_bit(blob_of(medium, LICENSE), 2)

    result = extract(medium, out=tmp_path / "out", fingerprint=fingerprint)

    assert result.exit_code == 4
    assert f"{LICENSE}: leaf 0 of 1 is not what was signed" in result.output
    assert "VERIFIED" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["medium"]


def test_nothing_is_written_for_a_root_that_is_not_the_one_on_paper(medium: Path, tmp_path: Path) -> None:
    result = extract(medium, out=tmp_path / "out", fingerprint="00" * 32)

    assert result.exit_code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["medium"]


def test_a_file_that_nobody_signed_is_refused(medium: Path, fingerprint: str, tmp_path: Path) -> None:
    (medium / "blobs" / "extra").write_text("more")

    result = extract(medium, out=tmp_path / "out", fingerprint=fingerprint)

    assert result.exit_code == 4
    assert "not signed: blobs/extra" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["medium"]


def test_a_place_that_cannot_be_written_is_said_so(medium: Path, fingerprint: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    inside = extract(medium, out=tmp_path / "file" / "out", fingerprint=fingerprint)
    nowhere = extract(medium, out=tmp_path / "nowhere" / "out", fingerprint=fingerprint)

    assert (inside.exit_code, nowhere.exit_code) == (3, 3)
    assert "What to do: Name a folder below one that is there" in nowhere.output
    assert not (tmp_path / "nowhere").exists()


class Killed(BaseException):
    """The process is gone."""


def test_what_a_kill_leaves_is_not_the_folder_and_the_next_run_ends_it(
    medium: Path, fingerprint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = tmp_path / ".out.partial"
    (partial / "weights").mkdir(parents=True)
    (partial / "weights" / "half").write_text("what a killed run had written")

    def dies(*_arguments: object) -> None:
        assert not (tmp_path / "out").exists()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "write_from", dies)
        with pytest.raises(Killed):
            extract(medium, out=tmp_path / "out", fingerprint=fingerprint)
    assert not (tmp_path / "out").exists()

    assert extract(medium, out=tmp_path / "out", fingerprint=fingerprint).exit_code == 0
    assert files(tmp_path / "out") == tree()
