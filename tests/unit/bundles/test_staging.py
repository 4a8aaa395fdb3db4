"""A file on its way into the store: past the page cache where that is possible, and through it elsewhere."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from bundles import store as store_module
from bundles.digest import sha256_hex
from bundles.errors import StoreFull, StoreUnusable
from bundles.release import LEAF_BYTES, FileEntry
from bundles.store import Store

_OPEN = os.open


@pytest.fixture
def large() -> tuple[FileEntry, bytes]:
    """A file of one leaf and a bit, which ends in no whole block."""
    content = bytes(range(256)) * (LEAF_BYTES // 256) + b"and a bit"
    leaves = (sha256_hex(content[:LEAF_BYTES]), sha256_hex(content[LEAF_BYTES:]))
    return FileEntry(path="a", size_bytes=len(content), sha256=sha256_hex(content), leaves=leaves), content


def _leaves(content: bytes) -> list[memoryview]:
    """Give the leaves in memory that begins at a page, as those do that an import works with."""
    memory = memoryview(mmap.mmap(-1, len(content)))
    memory[:] = content
    return [memory[:LEAF_BYTES], memory[LEAF_BYTES:]]


def test_a_large_file_gets_its_room_first_and_goes_past_the_page_cache(
    tmp_path: Path, large: tuple[FileEntry, bytes]
) -> None:
    entry, content = large
    store = Store(tmp_path / "store")
    with store.staged(tmp_path, entry) as staged:
        assert staged.is_direct
        assert staged.path.stat().st_blocks * 512 >= entry.size_bytes
        views = _leaves(content)
        assert not staged.has(0, memoryview(bytearray(LEAF_BYTES)))  # room alone is nothing that an earlier try left
        for leaf, view in enumerate(views):
            staged.write(leaf, view)
        assert staged.has(1, memoryview(bytearray(len(views[1]))))
        staged.adopt()

    assert store.path(entry.sha256).read_bytes() == content
    assert not list(tmp_path.glob("*.partial"))


def _refuse_direct(path: Path, flags: int, mode: int = 0o777) -> int:
    if flags & os.O_DIRECT:
        raise OSError(errno.EINVAL, "this file system has no O_DIRECT")
    return _OPEN(path, flags, mode)


@pytest.mark.parametrize("why", ["file system", "alignment"])
def test_what_cannot_go_past_the_page_cache_goes_through_it(
    tmp_path: Path, large: tuple[FileEntry, bytes], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    entry, content = large
    store = Store(tmp_path / "store")
    if why == "file system":
        monkeypatch.setattr("bundles.store.os.open", _refuse_direct)
    with store.staged(tmp_path, entry) as staged:
        assert staged.is_direct is (why == "alignment")
        skewed = memoryview(b"x" + content)[1:]
        staged.write(0, skewed[:LEAF_BYTES])
        staged.write(1, skewed[LEAF_BYTES:])
        staged.adopt()

    assert store.path(entry.sha256).read_bytes() == content


def test_a_disk_that_fails_while_it_is_written_past_the_page_cache_is_told(
    tmp_path: Path, large: tuple[FileEntry, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, content = large

    def fail(_descriptor: int, _view: memoryview, _offset: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Store(tmp_path / "store").staged(tmp_path, entry) as staged:
        monkeypatch.setattr(store_module, "write_from", fail)
        with pytest.raises(StoreUnusable, match="Input/output error"):
            staged.write(0, _leaves(content)[0])


def test_a_disk_without_room_for_a_whole_file_is_full_before_the_first_byte(
    tmp_path: Path, large: tuple[FileEntry, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bundles.store.os.posix_fallocate", full)

    with pytest.raises(StoreFull), Store(tmp_path / "store").staged(tmp_path, large[0]):
        raise AssertionError("it was opened")
