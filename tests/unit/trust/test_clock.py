"""Time is judged by the latest that was seen; a wrong clock revives nothing and stops no serving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bundles.errors import ReleaseExpired, RollbackRefused
from bundles.keys import Keyring
from bundles.layout import open_bundle, peek
from bundles.publish import publish
from bundles.signing import Expiry
from tests.support.small_bundles import NOW, blank_release, tree
from tests.unit.bundles.site import Site

EPOCH_1970 = datetime(1970, 1, 1, tzinfo=UTC)
SHORT = Expiry(targets_days=30, snapshot_days=30, timestamp_days=30)


def release_at(tmp_path: Path, keyring: Keyring, epoch: int, *, signed: datetime = NOW) -> Path:
    release = blank_release(epoch=epoch, version=f"26.11.{epoch}")
    return publish(
        tree(seed=epoch), release, keyring, out=tmp_path / f"medium-{epoch}", now=signed, expiry=SHORT
    ).folder


def test_a_first_import_with_the_clock_at_1970_takes_the_release_and_learns_the_time(
    tmp_path: Path, keyring: Keyring, site: Site
) -> None:
    site.import_(release_at(tmp_path, keyring, 1), now=EPOCH_1970)

    assert site.policy is not None
    assert site.policy.time == NOW  # the release was made then, so that it is not earlier


def test_a_clock_at_1970_revives_no_expired_release(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    """A battery that died after a good import: what had expired by then stays expired."""
    expired = release_at(tmp_path, keyring, 3, signed=NOW - timedelta(days=40))
    site.import_(release_at(tmp_path, keyring, 2), now=NOW)
    before = site.policy

    with pytest.raises(ReleaseExpired) as caught:
        site.import_(expired, now=EPOCH_1970)

    assert "judged by 2026-11-24" in caught.value.detail
    assert site.policy == before
    assert site.slots() == ["26.11.2-e2"]


def test_a_clock_at_1970_does_not_stop_a_fresh_release(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    site.import_(release_at(tmp_path, keyring, 1), now=NOW)

    site.import_(release_at(tmp_path, keyring, 2, signed=NOW + timedelta(days=5)), now=EPOCH_1970)

    assert site.policy is not None
    assert site.policy.epoch == 2
    assert site.policy.time >= NOW


def test_a_clock_that_jumps_back_does_not_take_the_latest_time_back(
    tmp_path: Path, keyring: Keyring, site: Site
) -> None:
    later = NOW + timedelta(days=20)
    site.import_(release_at(tmp_path, keyring, 1), now=later)
    site.import_(release_at(tmp_path, keyring, 2), now=NOW - timedelta(days=300))
    assert site.policy is not None
    assert site.policy.time == later

    with pytest.raises(ReleaseExpired):
        site.import_(release_at(tmp_path, keyring, 3, signed=later - timedelta(days=31)), now=NOW)

    assert site.policy.time == later
    assert site.policy.epoch == 2


def test_an_older_release_is_refused_whatever_the_clock_says(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    old = release_at(tmp_path, keyring, 1)
    site.import_(release_at(tmp_path, keyring, 2), now=NOW)

    for now in (EPOCH_1970, NOW - timedelta(days=1), NOW, NOW + timedelta(days=10)):
        with pytest.raises(RollbackRefused):
            site.import_(old, now=now)

    assert site.slots() == ["26.11.2-e2"]


def test_a_refused_release_from_the_future_does_not_move_the_latest_time(
    tmp_path: Path, keyring: Keyring, site: Site
) -> None:
    site.import_(release_at(tmp_path, keyring, 1), now=NOW)

    with pytest.raises(ReleaseExpired):
        site.import_(release_at(tmp_path, keyring, 2), now=datetime(2050, 1, 1, tzinfo=UTC))

    assert site.policy is not None
    assert site.policy.time == NOW
    assert site.import_(release_at(tmp_path, keyring, 3), now=NOW).is_dir()


def test_expiry_blocks_the_next_import_and_never_what_is_served(tmp_path: Path, keyring: Keyring, site: Site) -> None:
    medium = release_at(tmp_path, keyring, 1)
    slot = site.import_(medium, now=NOW)
    served = {path: path.read_bytes() for path in slot.rglob("*") if path.is_file()}

    with pytest.raises(ReleaseExpired):
        site.import_(medium, now=NOW + timedelta(days=31))

    assert {path: path.read_bytes() for path in slot.rglob("*") if path.is_file()} == served
    assert peek(open_bundle(medium)).slot == slot.name
