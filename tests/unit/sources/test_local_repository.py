"""The chain from the driver set down to one package, with real debs, real keys and real apt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bundles.errors import SourceFailed
from bundles.sources import SourceContext, make_source
from bundles.sources.driver_set import Archive
from bundles.sources.local_repository import unpack
from bundles.sources.repository_key import RepositoryKey
from tests.unit.sources.packages import FOLDER, fingerprint_of, make_deb, make_local_deb

PACKAGES = {"nvidia-driver-cuda": "580.95.05-1", "nvidia-kernel-open-dkms": "580.95.05-1"}
KERNEL = "6.1.0-50-amd64"


def debs(folder: Path) -> list[Path]:
    return [make_deb(folder, name=name, version=version) for name, version in PACKAGES.items()]


@pytest.fixture
def nvidia(tmp_path: Path) -> RepositoryKey:
    return RepositoryKey(tmp_path / "nvidia-key")


@pytest.fixture
def archive(tmp_path: Path, nvidia: RepositoryKey) -> Archive:
    made = make_local_deb(tmp_path, debs(tmp_path), key=nvidia)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    return Archive(file=made.name, sha256=digest, key=fingerprint_of(nvidia, tmp_path))


@pytest.fixture
def source(tmp_path: Path) -> Callable[[Archive], Callable[[], Path]]:
    """Make a fetch of a Debian repository whose driver comes from the archive."""

    def make(archive: Archive) -> Callable[[], Path]:
        (tmp_path / "r580.toml").write_text(
            f'schema = "leeward-driver/1"\nversion = "580.95.05"\nfolder = "."\n[systems.debian-12]\n'
            f'kernels = ["{KERNEL}"]\npackages = {list(PACKAGES)}\n'
            'kernels_refused = { "6.1.0-56-amd64" = "too new" }\n'
            f'archives = [{{ file = "{archive.file}", sha256 = "{archive.sha256}", key = "{archive.key}" }}]\n'
        )
        context = SourceContext(recipe_folder=tmp_path, cache=tmp_path / "cache", progress=lambda *_: None)
        driver = {"set": "r580.toml", "system": "debian-12"}
        made = make_source({"kind": "debian", "suite": "bookworm", "driver": driver}, context)
        into = tmp_path / "os"
        into.mkdir()

        def fetch() -> Path:
            made.fetch(into)
            return into

        return fetch

    return make


def test_a_pinned_archive_gives_its_repository_and_the_pinned_key_alone(tmp_path: Path, archive: Archive) -> None:
    found = unpack(archive, folder=tmp_path, into=tmp_path / "unpacked")

    assert found.folder.relative_to(tmp_path / "unpacked" / archive.sha256).as_posix() == FOLDER
    assert found.key.read_text().count("BEGIN PGP PUBLIC KEY") == 1


def test_other_bytes_than_the_pinned_ones_are_not_unpacked(tmp_path: Path, archive: Archive) -> None:
    file = tmp_path / archive.file
    file.write_bytes(file.read_bytes() + b"\n")

    with pytest.raises(SourceFailed, match="has SHA-256") as refused:
        unpack(archive, folder=tmp_path, into=tmp_path / "unpacked")

    assert archive.sha256 in refused.value.detail
    assert not (tmp_path / "unpacked").exists()


def test_a_key_that_nobody_pinned_is_not_taken(tmp_path: Path, archive: Archive) -> None:
    other = Archive(file=archive.file, sha256=archive.sha256, key="A" * 40)

    with pytest.raises(SourceFailed, match="no key with fingerprint AAAA"):
        unpack(other, folder=tmp_path, into=tmp_path / "unpacked")


def test_a_package_that_holds_no_repository_is_refused(tmp_path: Path) -> None:
    deb = make_deb(tmp_path, name="hello", version="1-1")
    archive = Archive(file=deb.name, sha256=hashlib.sha256(deb.read_bytes()).hexdigest(), key="A" * 40)

    with pytest.raises(SourceFailed, match="no key with fingerprint"):
        unpack(archive, folder=tmp_path, into=tmp_path / "unpacked")


@pytest.mark.node
def test_the_driver_of_a_local_repository_is_resolved_with_the_mirrors_packages(
    source: Callable[[Archive], Callable[[], Path]], archive: Archive
) -> None:
    into = source(archive)()

    contents = (into / "leeward-os.json").read_text()
    names = {path.name.partition("_")[0] for path in (into / "pool").iterdir()}
    assert {*PACKAGES, "dkms", f"linux-headers-{KERNEL}", "mokutil"} <= names
    assert '"nvidia-driver-cuda": "580.95.05-1"' in contents
    assert '"6.1.0-56-amd64": "too new"' in contents


@pytest.mark.node
def test_an_index_that_the_pinned_key_did_not_sign_is_refused(
    tmp_path: Path, source: Callable[[Archive], Callable[[], Path]], nvidia: RepositoryKey
) -> None:
    """Someone puts the right key beside an index that another key signed, and the digest was pinned of that."""
    another = RepositoryKey(tmp_path / "another-key")
    made = make_local_deb(tmp_path, debs(tmp_path), key=_Mixed(signs=another, shows=nvidia))  # type: ignore[arg-type]  # shows one key and signs with another
    archive = Archive(
        file=made.name, sha256=hashlib.sha256(made.read_bytes()).hexdigest(), key=fingerprint_of(nvidia, tmp_path)
    )
    fetch = source(archive)

    with pytest.raises(SourceFailed, match="apt-get exited"):
        fetch()

    assert list((tmp_path / "os").iterdir()) == []


class _Mixed:
    def __init__(self, *, signs: RepositoryKey, shows: RepositoryKey) -> None:
        self.sign = signs.sign
        self.public = shows.public
