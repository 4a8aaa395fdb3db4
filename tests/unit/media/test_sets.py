from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from appliance.domain.errors import RequestInvalid
from appliance.domain.operation import OperationKind, OperationRequest, check_parameters
from appliance.services.steps.intake import media_paths
from bundles.digest import sha256_hex
from bundles.errors import VolumesMissing
from bundles.keys import Keyring
from bundles.media.opening import open_media
from bundles.media.split import lay_out, write_volume
from bundles.release import Release
from tests.support.small_bundles import tree, write_bundle
from tests.unit.bundles.site import Site
from tests.unit.media.reading import content, take

FOUND = range(7)


def test_a_bundle_is_spread_over_five_data_volumes_and_two_parity_volumes(volumes: tuple[Path, ...]) -> None:
    assert [volume.name for volume in volumes] == [f"volume-{number:02d}" for number in range(1, 8)]
    for volume in volumes:
        assert (volume / "metadata/timestamp.json").is_file()
        assert (volume / "volume/header.json").is_file()
        assert sum(path.stat().st_size for path in volume.rglob("*")) <= 30_000_000
        assert not list(volume.rglob("*.partial"))


@pytest.mark.parametrize("lost", list(combinations(FOUND, 2)), ids=str)
def test_any_two_of_seven_volumes_may_be_destroyed(
    lost: tuple[int, int], volumes: tuple[Path, ...], release: Release
) -> None:
    kept = [volume for number, volume in enumerate(volumes) if number not in lost]

    media = open_media(kept)

    assert not media.blobs(release).compare(release.files)
    for entry in release.files:
        assert sha256_hex(content(entry, kept, release)) == entry.sha256


def test_a_set_is_imported_like_the_bundle(
    volumes: tuple[Path, ...], bundle: Path, release: Release, site: Site
) -> None:
    slot = take(site, *volumes)

    for entry in release.files:
        assert (slot / entry.path).read_bytes() == content(entry, [bundle], release)
    assert site.policy is not None


def test_three_of_seven_volumes_destroyed_are_too_many(volumes: tuple[Path, ...], site: Site) -> None:
    with pytest.raises(VolumesMissing) as refused:
        take(site, *volumes[:3], volumes[5])

    assert "volume 4 of 7" in refused.value.detail
    assert "volume 5 of 7" in refused.value.detail
    assert "parity can stand in: volume 7 of 7" in refused.value.detail
    assert "volume 2 of 7" not in refused.value.detail
    assert site.slots() == []
    assert site.policy is None


def test_a_lost_only_volume_is_mended_with_content_that_stands_under_two_names(
    keyring: Keyring, site: Site, tmp_path: Path
) -> None:
    files = tree()
    files["engine/copy.whl"] = files["weights/target/consolidated.safetensors"]
    bundle = write_bundle(tmp_path / "bundle", keyring, files=files).folder
    layout = lay_out(open_media([bundle]), volume_bytes=30_000_000, parity=1)
    for header in layout.headers:
        write_volume(layout, header, layout.folder(header, tmp_path / "set"))

    slot = take(site, tmp_path / "set/volume-02")

    assert len(layout.headers) == 2
    assert {path: (slot / path).read_bytes() for path in files} == files


def test_an_operation_names_further_volumes_a_line_each() -> None:
    good = {"medium": "/media/a", "volumes": "/media/b\n/media/c"}

    check_parameters(OperationRequest(kind=OperationKind.IMPORT, parameters=good))

    assert media_paths(good) == (Path("/media/a"), Path("/media/b"), Path("/media/c"))
    with pytest.raises(RequestInvalid, match="volumes names 'c', which is not an absolute path"):
        check_parameters(OperationRequest(kind=OperationKind.INSTALL, parameters={**good, "volumes": "/b\nc"}))
