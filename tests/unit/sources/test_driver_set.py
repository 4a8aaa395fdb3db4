"""Driver sets: what the recipes name, and what is said where something is not filled in."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bundles.errors import RecipeInvalid
from bundles.sources import SourceContext, make_source
from bundles.sources.driver_set import DriverSet, Modules, read_driver
from tests.unit.engine.releases import RECIPES

FILES = sorted((RECIPES / "drivers").glob("*.toml"))
SYSTEMS = ("debian-12", "ubuntu-22", "ubuntu-24", "ubuntu-24-signed", "rhel-9")


def filled_in(path: Path, folder: Path) -> dict[str, object]:
    """Copy a set with digests and keys, and lay empty files where its archives shall lie."""
    text = path.read_text(encoding="utf-8").replace("../../../nvidia", str(folder))
    text = text.replace('sha256 = "FILL-IN"', f'sha256 = "{"a" * 64}"').replace(
        'key = "FILL-IN"', f'key = "{"A" * 40}"'
    )
    (folder / path.name).write_text(text)
    for table in tomllib.loads(text)["systems"].values():
        for archive in table.get("archives", []):
            (folder / archive["file"]).touch()
    return {"set": path.name}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("system", SYSTEMS)
def test_each_shipped_set_is_complete_but_for_what_only_a_person_can_know(
    path: Path, system: str, tmp_path: Path
) -> None:
    table = {"driver": {**filled_in(path, tmp_path), "system": system}}

    driver, folder = read_driver(table, tmp_path)

    assert driver is not None
    assert folder == tmp_path
    assert driver.version.split(".")[0] == path.stem.removeprefix("r")
    assert driver.modules is (Modules.PREBUILT if system.endswith("signed") else Modules.DKMS)
    assert all(driver.version in archive.file for archive in driver.archives)
    assert [name for name in driver.packages if "open" in name]
    assert not [name for name in driver.packages if "fabric" in name]


def test_the_real_recipe_names_every_missing_piece_of_its_driver_at_once(tmp_path: Path) -> None:
    context = SourceContext(recipe_folder=RECIPES, cache=tmp_path, progress=lambda *_: None)
    recipe = tomllib.loads((RECIPES / "mistral-medium-3.5.toml").read_text(encoding="utf-8"))
    (source,) = [part["source"] for part in recipe["contents"] if part["into"].startswith("os/")]

    with pytest.raises(RecipeInvalid) as refused:
        make_source(source, context)

    file = "nvidia-driver-local-repo-debian12-580.95.05_1.0-1_amd64.deb"
    assert f"the SHA-256 of {file} is not filled in" in refused.value.detail
    assert f"the fingerprint of the key in {file} is not filled in" in refused.value.detail
    assert f"{file} does not lie in" in refused.value.detail
    assert "docs/drivers.md" in refused.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_the_real_recipe_can_be_made_once_its_driver_is_filled_in(tmp_path: Path) -> None:
    driver = {**filled_in(RECIPES / "drivers/r580.toml", tmp_path), "system": "debian-12"}
    context = SourceContext(recipe_folder=tmp_path, cache=tmp_path / "cache", progress=lambda *_: None)

    assert make_source({"kind": "debian", "suite": "bookworm", "packages": [], "driver": driver}, context)


def test_a_set_without_that_system_says_which_it_has(tmp_path: Path) -> None:
    driver = {**filled_in(FILES[0], tmp_path), "system": "plan9"}

    with pytest.raises(RecipeInvalid, match="debian-12, ubuntu-22"):
        read_driver({"driver": driver}, tmp_path)


def test_a_kernel_cannot_be_both_compiled_for_and_refused(tmp_path: Path) -> None:
    driver = {"version": "1-1", "packages": ["a"], "kernels": ["k"], "kernels_refused": {"k": "it does not compile"}}

    with pytest.raises(RecipeInvalid, match="both name k"):
        read_driver({"driver": driver}, tmp_path)


def test_a_version_of_nvidia_fits_any_packaging_revision_and_one_of_debian_itself_alone() -> None:
    nvidia = DriverSet(version="580.95.05", packages=("a",), kernels=("k",))
    debian = DriverSet(version="535.261.03-1", packages=("a",), kernels=("k",))

    assert (nvidia.pin, debian.pin) == ("580.95.05-*", "535.261.03-1")
