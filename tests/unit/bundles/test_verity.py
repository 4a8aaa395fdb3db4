from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from bundles import verity
from bundles.verity import is_protected, protect, protection
from tests.unit.bundles.site import Site


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_protected_file_takes_no_writer_and_without_support_nothing_is_pretended(file: Path) -> None:
    is_on = protect(file)

    assert is_protected(file) == is_on
    assert protect(file) == is_on
    if is_on:
        with pytest.raises(PermissionError):
            file.open("r+b")
    else:
        file.write_bytes(b"still writable")


def test_the_kernel_is_asked_for_sha_256_over_blocks_of_4096_bytes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bytes]] = []
    monkeypatch.setattr(fcntl, "ioctl", lambda _descriptor, request, argument: asked.append((request, argument)))

    assert protect(file)
    assert is_protected(file)

    (enable, enable_argument), (measure, measure_argument) = asked
    assert enable == 1 << 30 | len(enable_argument) << 16 | ord("f") << 8 | 133
    assert measure == 3 << 30 | 4 << 16 | ord("f") << 8 | 134
    assert len(enable_argument) == 128
    assert struct.unpack_from("=IIII", enable_argument) == (1, 1, 4096, 0)
    assert not any(enable_argument[16:])
    assert struct.unpack_from("=HH", measure_argument) == (0, 32)
    assert len(measure_argument) == 36


@pytest.mark.parametrize(("number", "is_on"), [(errno.EEXIST, True), (errno.EOPNOTSUPP, False), (errno.ENOSPC, False)])
def test_what_is_on_already_counts_and_what_is_missing_does_not(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, is_on: bool
) -> None:
    def refusing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", refusing)

    assert protect(file) == is_on


def test_a_file_that_is_not_there_is_not_protected(tmp_path: Path) -> None:
    assert not protect(tmp_path / "none")
    assert not is_protected(tmp_path / "none")


def test_protection_is_told_in_numbers(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verity, "is_protected", lambda path: path == file)

    assert str(protection([file, file.with_name("other")])) == "fs-verity is on for 1 of 2 files"
    assert "off" in str(protection([file.with_name("other")]))


def test_an_import_protects_files_under_their_names_once_they_have_no_writer(
    site: Site, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected: list[Path] = []

    def noted(path: Path) -> bool:
        protected.append(path)
        assert path not in [link.resolve() for link in Path("/proc/self/fd").iterdir()]
        return True

    monkeypatch.setattr("bundles.store.protect", noted)

    site.import_(medium)

    assert sorted(protected) == site.stored()
