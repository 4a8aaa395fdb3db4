"""The list of a release: valid by the official schema, complete, and the same every time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bundles.cli import bundle
from bundles.digest import sha256_hex
from bundles.keys import Keyring
from bundles.layout import open_bundle
from bundles.publish import publish
from bundles.recipe import Content
from bundles.release import FileEntry, LicenseEntry, Release
from bundles.sbom import write
from bundles.sbom.notices import notices
from bundles.sbom.packages import read_wheel
from bundles.sbom.write import BOM, NOTICES, sbom_files
from tests.support.small_bundles import NOW, blank_release, params, tree
from tests.unit.bundles.site import Site, blob_of, flip_bit
from tests.unit.sbom.packages import deb, wheel

HUB = Content(
    into="weights/target",
    source={"kind": "hub", "repository": "mistralai/Mistral-Medium-3.5-128B", "revision": "c4be198"},
)
TERMS = "LicenseRef-Mistral-Modified-MIT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tree with two models, two wheels of one package, and two Debian packages of which one points to the other."""
    root = tmp_path / "tree"
    vision = json.dumps({**json.loads(params()), "vision_encoder": {"hidden_size": 4}}).encode()
    own = {"weights/target/params.json": vision, "licenses/draft/LICENSE": b"other text\n"}
    for path, content in (tree() | own).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    for place in ("engine/wheels", "appliance/wheels", "os/pool/a", "os/pool/b", "os/pool/c"):
        (root / place).mkdir(parents=True)
    meta = "Metadata-Version: 2.4\nName: Pkg\nVersion: 1.0\nLicense-Expression: MIT\n"
    wheel(root / "engine/wheels", meta, texts={"licenses/LICENSE": b"MIT text"})
    wheel(root / "appliance/wheels", meta, texts={"licenses/LICENSE": b"MIT text"})
    wheel(root / "appliance/wheels", "Name: quiet\nVersion: 2\nLicense: Beerware\n", name="quiet-2")
    control = "Package: {}\nVersion: 1\nArchitecture: all\n"
    text = b"License: GPL-3+\n text\n"
    deb(root / "os/pool/a", control.format("base"), files={"usr/share/doc/base/copyright": text})
    deb(root / "os/pool/b", control.format("tool"), links={"usr/share/doc/tool": "base"})
    deb(root / "os/pool/c", control.format("lone"), links={"usr/share/doc/lone": "elsewhere"})
    return root


def release() -> Release:
    licenses = tuple(
        LicenseEntry(
            applies_to=f"weights/{part}",
            spdx_id=TERMS,
            path=f"licenses/{part}/LICENSE",
            threshold_usd_monthly=20_000_000,
        )
        for part in ("target", "draft")
    )
    return replace(blank_release(), licenses=licenses)


def entries(folder: Path) -> tuple[FileEntry, ...]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        FileEntry(
            path=path.relative_to(folder).as_posix(),
            size_bytes=path.stat().st_size,
            sha256=sha256_hex(path.read_bytes()),
            leaves=(),
        )
        for path in files
    )


def listed(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the list, checked against the official schema, and its components by reference."""
    content = sbom_files(folder, release(), (HUB,), entries(folder))[BOM].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    plain = json.loads(content)
    return plain, {one["bom-ref"]: one for one in plain["components"]}


def test_the_list_is_valid_cyclonedx_and_names_every_file_with_its_digest(folder: Path) -> None:
    plain, components = listed(folder)

    hashes = {
        ref: one["hashes"][0]["content"]
        for group in [components, *({c["bom-ref"]: c for c in m.get("components", [])} for m in components.values())]
        for ref, one in group.items()
        if "hashes" in one
    }
    assert hashes == {entry.path: entry.sha256 for entry in entries(folder)}
    assert plain["metadata"]["component"]["version"] == "26.11.0"
    assert set(plain["dependencies"][0]["dependsOn"]) == set(components)


def test_the_schema_check_can_fail() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str('{"bomFormat": "CycloneDX", "extra": 1}') is not None


def test_models_have_cards_from_their_own_files_and_their_own_licence_texts(folder: Path) -> None:
    _, components = listed(folder)
    target, draft = components["weights/target"], components["weights/draft"]

    assert target["type"] == draft["type"] == "machine-learning-model"
    assert target["purl"] == "pkg:huggingface/mistralai/Mistral-Medium-3.5-128B@c4be198"
    assert (target["name"], target["version"]) == ("Mistral-Medium-3.5-128B", "c4be198")
    assert "purl" not in draft
    assert target["licenses"] == [{"expression": TERMS}]
    card = target["modelCard"]
    assert [one["format"] for one in card["modelParameters"]["inputs"]] == ["text", "image"]
    assert [one["format"] for one in draft["modelCard"]["modelParameters"]["inputs"]] == ["text"]
    assert {"name": "leeward:dim", "value": "64"} in card["properties"]
    texts = {one["value"] for m in (target, draft) for one in m["properties"] if one["name"].endswith("text_sha256")}
    assert texts == {sha256_hex(b"licence text\n"), sha256_hex(b"other text\n")}


def test_packages_have_urls_and_what_they_say_of_their_licence(folder: Path) -> None:
    _, components = listed(folder)

    assert components["engine/wheels/pkg-1.0-py3-none-any.whl"]["licenses"] == [{"expression": "MIT"}]
    assert components["appliance/wheels/quiet-2-py3-none-any.whl"]["licenses"] == [{"license": {"name": "Beerware"}}]
    tool = components["os/pool/b/pkg_1.0_all.deb"]
    assert tool["purl"] == "pkg:deb/debian/tool@1?arch=all"
    assert tool["licenses"] == [{"license": {"name": "GPL-3+"}}]
    assert "licenses" not in components["os/pool/c/pkg_1.0_all.deb"]


def test_a_release_without_licence_entries_says_nothing_of_them(folder: Path) -> None:
    bare = replace(release(), licenses=())

    content = sbom_files(folder, bare, (), entries(folder))[BOM].decode()

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    assert "licenses" not in json.loads(content)["components"][0]


def test_the_same_contents_give_the_same_bytes_and_others_another_serial_number(folder: Path) -> None:
    files = entries(folder)
    first = sbom_files(folder, release(), (HUB,), files)

    assert sbom_files(folder, release(), (HUB,), files) == first
    other = sbom_files(folder, replace(release(), epoch=2), (HUB,), files)
    assert json.loads(other[BOM])["serialNumber"] != json.loads(first[BOM])["serialNumber"]


def test_notices_hold_each_text_once_with_all_that_it_covers(folder: Path) -> None:
    text = sbom_files(folder, release(), (HUB,), entries(folder))[NOTICES].decode()

    assert text.count("MIT text") == 1
    assert text.count("License: GPL-3+") == 1
    assert "  base 1\n  tool 1\n" in text
    assert "  quiet 2 (Beerware)" in text
    assert "  lone 1 (licence unknown; its text is that of elsewhere" in text


def test_notices_without_anything_unsaid_end_with_the_texts(tmp_path: Path) -> None:
    meta = "Name: pkg\nVersion: 1.0\nLicense-Expression: MIT\n"
    found = read_wheel(wheel(tmp_path, meta, texts={"LICENSE": b"MIT text"}))

    assert notices("small 1", [found]).endswith(b"MIT text\n")


def test_packages_that_point_in_a_circle_are_left_without_a_text(folder: Path) -> None:
    control = "Package: {}\nVersion: 1\n"
    deb(folder / "os/pool/a", control.format("base"), links={"usr/share/doc/base": "tool"})

    text = sbom_files(folder, release(), (), entries(folder))[NOTICES].decode()

    assert "base 1 (licence unknown" in text


def test_a_list_made_outside_an_installation_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> str:
        raise write.PackageNotFoundError

    monkeypatch.setattr(write, "version", absent)

    plain = json.loads(sbom_files(folder, release(), (), entries(folder))[BOM])

    assert plain["metadata"]["tools"]["components"][0]["version"] == "unknown"


@pytest.fixture
def medium(tmp_path: Path, folder: Path) -> Path:
    keyring = Keyring.create(tmp_path / "keys", now=NOW)
    report = publish(
        folder,
        release(),
        keyring,
        out=tmp_path / "medium",
        now=NOW,
        describe=lambda files: sbom_files(folder, release(), (HUB,), files),
    )
    assert Site.trusting(tmp_path / "site", keyring).import_(report.folder).joinpath(BOM).is_file()
    return report.folder


def test_the_list_travels_in_the_release_and_can_be_shown(medium: Path, folder: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(bundle, ["sbom", str(medium)])
    saved = CliRunner().invoke(bundle, ["sbom", str(medium), "--notices", "--out", str(tmp_path / "n.txt")])

    plain = json.loads(shown.output)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(shown.output) is None
    assert {one["bom-ref"] for one in plain["components"]} >= {"weights/target", "playbooks/site.yml"}
    assert saved.exit_code == 0
    assert "MIT text" in (tmp_path / "n.txt").read_text()
    assert folder.is_dir()


def test_a_damaged_list_is_not_shown(medium: Path) -> None:
    flip_bit(blob_of(medium, BOM), 100)

    shown = CliRunner().invoke(bundle, ["sbom", str(medium)])

    assert shown.exit_code == 4
    assert "CycloneDX" not in shown.stdout


def test_a_release_without_a_list_says_so(tmp_path: Path) -> None:
    keyring = Keyring.create(tmp_path / "keys", now=NOW)
    bare = publish(tree(), blank_release(), keyring, out=tmp_path / "bare", now=NOW)

    shown = CliRunner().invoke(bundle, ["sbom", str(bare.folder)])

    assert shown.exit_code == 2
    assert "holds no sbom/bom.cdx.json" in shown.output
    assert open_bundle(bare.folder)
