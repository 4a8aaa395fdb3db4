from __future__ import annotations

from pathlib import Path

import pytest

from bundles.keys import Keyring
from tests.support.small_bundles import NOW, write_bundle
from tests.unit.bundles.site import Site


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.create(tmp_path / "keys", now=NOW)


@pytest.fixture
def medium(tmp_path: Path, keyring: Keyring) -> Path:
    return write_bundle(tmp_path / "medium", keyring).folder


@pytest.fixture
def site(tmp_path: Path, keyring: Keyring) -> Site:
    return Site.trusting(tmp_path / "site", keyring)
