"""A disk that is full to its last block stops admissions, and no settlement."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.adapters.sql_ledger import SqlKeyRegister, SqlUsageReader, create_ledger, open_ledger
from tests.unit.gateway.test_ledger import NOW, admission, opened, settlement

IN_FLIGHT = 1_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small tmpfs")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("may not mount here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until nothing fits any more, one byte at the end."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    assert shutil.disk_usage(folder).free == 0
    return ballast


def test_every_request_under_way_is_settled_on_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "ledger.db"
    create_ledger(path, os.getuid(), os.getgid())
    engine = open_ledger(path)
    key, _ = SqlKeyRegister(engine).create(name="n", team="t", at=NOW)
    writer = opened(path)
    admitted = [admission(key) for _ in range(IN_FLIGHT)]
    for future in [writer.admit(one) for one in admitted]:
        future.result()
    assert shutil.disk_usage(small_disk).free > 0

    fill(small_disk)
    for future in [writer.settle(settlement(one.request_id)) for one in admitted]:
        future.result(timeout=20)

    assert not writer.has_room()
    assert SqlUsageReader(engine).counts() == (IN_FLIGHT, 0)
    writer.close()
    engine.dispose()
