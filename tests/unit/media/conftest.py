from __future__ import annotations

import random
from pathlib import Path

import pytest

from bundles.keys import Keyring
from bundles.layout import open_bundle, peek
from bundles.media.opening import open_media
from bundles.media.split import lay_out, write_volume
from bundles.release import Release
from tests.support.small_bundles import NOW, safetensors_bytes, tree, write_bundle
from tests.unit.bundles.site import Site

MB = 1_000_000
VOLUME_BYTES = 30 * MB


def random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  content, no secret


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring.create(tmp_path_factory.mktemp("media") / "keys", now=NOW)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, keyring: Keyring) -> Path:
    """A bundle of 60 MB: one file of three leaves, two of nine megabytes, and small ones."""
    files = tree()
    files["weights/target/consolidated.safetensors"] = safetensors_bytes(random_bytes(1, 42 * MB))
    files |= {f"engine/wheels/part-{number}.whl": random_bytes(number, 9 * MB) for number in (2, 3)}
    files["os/debian-12/pool/base.deb"] = random_bytes(5, 40_000)
    return write_bundle(tmp_path_factory.mktemp("media") / "bundle", keyring, files=files).folder


@pytest.fixture(scope="session")
def release(bundle: Path) -> Release:
    return peek(open_bundle(bundle))


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> tuple[Path, ...]:
    """Five data volumes and two parity volumes; tests only read them."""
    out = tmp_path_factory.mktemp("media") / "set"
    layout = lay_out(open_media([bundle]), volume_bytes=VOLUME_BYTES, parity=2)
    for header in layout.headers:
        write_volume(layout, header, layout.folder(header, out))
    return tuple(layout.folder(header, out) for header in layout.headers)


@pytest.fixture
def site(tmp_path: Path, keyring: Keyring) -> Site:
    return Site.trusting(tmp_path / "site", keyring)
