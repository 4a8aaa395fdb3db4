from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import Source, SourceContext, make_source
from bundles.sources.debian import RepositoryKey

MakeSource = Callable[..., Source]


@pytest.fixture
def make(tmp_path: Path) -> MakeSource:
    context = SourceContext(recipe_folder=tmp_path, cache=tmp_path / "cache", progress=lambda *_: None)
    return lambda **table: make_source({"kind": "debian", **table}, context)


@pytest.mark.parametrize(
    "driver",
    [True, "535", {"version": "1"}, {"version": "1", "packages": ["a"], "kernels": []}, {"packages": ["a"]}],
)
def test_a_driver_that_is_not_fully_named_is_refused(make: MakeSource, driver: object) -> None:
    with pytest.raises(RecipeInvalid):
        make(driver=driver)


def test_a_build_host_without_the_tools_is_told_which_packages_to_install(
    make: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SourceFailed) as failed:
        make().fetch(tmp_path)

    assert failed.value.remedy == "On a Debian build host: apt-get install apt dpkg gpg"
    assert list(tmp_path.iterdir()) == []


def test_a_repository_key_is_made_once_and_its_signature_verifies(tmp_path: Path) -> None:
    key = RepositoryKey(tmp_path / "keys")
    signed = key.sign(b"Origin: Leeward\n")
    (tmp_path / "key.gpg").write_bytes(key.public())
    (tmp_path / "InRelease").write_bytes(signed)

    verify = ["gpgv", "--keyring", str(tmp_path / "key.gpg"), str(tmp_path / "InRelease")]
    assert subprocess.run(verify, check=False, capture_output=True).returncode == 0
    assert b"Origin: Leeward" in signed
    assert RepositoryKey(tmp_path / "keys").sign(b"Origin: Leeward\n") == signed
    assert RepositoryKey(tmp_path / "keys").public() == key.public()
    assert (tmp_path / "keys/leeward-os.secret.asc").stat().st_mode & 0o077 == 0


def test_tampered_content_does_not_verify(tmp_path: Path) -> None:
    key = RepositoryKey(tmp_path / "keys")
    (tmp_path / "key.gpg").write_bytes(key.public())
    (tmp_path / "InRelease").write_bytes(key.sign(b"Origin: Leeward\n").replace(b"Leeward", b"Lee-ard"))

    verify = ["gpgv", "--keyring", str(tmp_path / "key.gpg"), str(tmp_path / "InRelease")]
    assert subprocess.run(verify, check=False, capture_output=True).returncode != 0


@pytest.mark.node
def test_a_fetched_repository_is_complete_signed_and_the_same_when_fetched_again(
    make: MakeSource, tmp_path: Path
) -> None:
    into = tmp_path / "os"
    into.mkdir()
    make(packages=["hello"]).fetch(into)
    first = {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}

    make(packages=["hello"]).fetch(into)

    second = {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}
    assert first == second
    names = {path.rpartition("/")[2].partition("_")[0] for path in first if path.startswith("pool/")}
    assert {"hello", "python3-venv", "python3-pip-whl", "nftables", "chrony", "python3-apt"} <= names
    assert {"g++", "libc6-dev", "libc6"} <= names  # the compiler's libc6-dev asks for exactly its libc6
    assert not {"bash", "dpkg", "coreutils"} & names
    assert not [path for path in first if ":" in path or "%" in path]
    assert set(first) - {path for path in first if path.startswith("pool/")} == {
        "dists/leeward/InRelease",
        "dists/leeward/main/binary-amd64/Packages",
        "leeward-os.gpg",
        "leeward-os.json",
    }


@pytest.mark.node
def test_a_package_that_does_not_exist_is_named_in_the_error(make: MakeSource, tmp_path: Path) -> None:
    with pytest.raises(SourceFailed) as failed:
        make(packages=["no-such-package-anywhere"]).fetch(tmp_path)

    assert "no-such-package-anywhere" in failed.value.detail
