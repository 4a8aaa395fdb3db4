"""Volumes on real file systems: FAT32 by mtools, and whatever this machine's kernel mounts, by loop device."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles.media.opening import open_media
from bundles.media.split import lay_out, write_volume
from bundles.release import Release
from tests.lab import loop
from tests.lab.medium import kernel_mounts
from tests.unit.bundles.site import Site
from tests.unit.media.conftest import VOLUME_BYTES
from tests.unit.media.reading import same_as_signed, take

IMAGE_BYTES = 64 * 2**20
MAKERS = {"vfat": ["mkfs.vfat", "-F", "32"], "exfat": ["mkfs.exfat"], "ext4": ["mkfs.ext4", "-q", "-m", "0"]}


def image(path: Path, maker: list[str]) -> Path:
    if shutil.which(maker[0]) is None:
        pytest.skip(f"{maker[0]} is not on this machine")
    with path.open("wb") as stream:
        stream.truncate(IMAGE_BYTES)
    subprocess.run([*maker, path], check=True, stdout=subprocess.DEVNULL)
    return path


def test_a_volume_survives_a_fat32_file_system(
    volumes: tuple[Path, ...], release: Release, site: Site, tmp_path: Path
) -> None:
    if shutil.which("mcopy") is None:
        pytest.skip("mtools is not on this machine")
    taken = []
    for number in (1, 5, 6):
        stick = image(tmp_path / f"{number}.img", MAKERS["vfat"])
        subprocess.run(["mcopy", "-s", "-i", stick, *sorted(volumes[number].iterdir()), "::"], check=True)
        taken.append(tmp_path / f"back-{number}")
        taken[-1].mkdir()
        subprocess.run(["mcopy", "-s", "-n", "-i", stick, "::*", taken[-1]], check=True)

    slot = take(site, *taken, volumes[0], volumes[4])

    assert same_as_signed(slot, release)


@pytest.fixture(params=sorted(MAKERS))
def stick(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A mounted stick of 64 MiB."""
    if os.geteuid() != 0 or not kernel_mounts(request.param, listing=Path("/proc/filesystems").read_text()):
        pytest.skip(f"this machine mounts no {request.param}")
    device = loop.bind(image(tmp_path / "stick.img", MAKERS[request.param]), read_only=False)
    at = tmp_path / "stick"
    at.mkdir()
    try:
        subprocess.run(["mount", "-t", request.param, device, at], check=True)
    finally:
        loop.release(device)
    yield at
    subprocess.run(["umount", at], check=True)


@pytest.mark.node
def test_a_volume_is_written_straight_onto_a_mounted_stick_and_imported_from_it(
    stick: Path, bundle: Path, volumes: tuple[Path, ...], release: Release, site: Site
) -> None:
    layout = lay_out(open_media([bundle]), volume_bytes=VOLUME_BYTES, parity=2)

    write_volume(layout, layout.headers[6], stick)
    subprocess.run(["mount", "-o", "remount,ro,nosuid,nodev,noexec", stick], check=True)
    slot = take(site, *volumes[:4], stick)

    assert same_as_signed(slot, release)
