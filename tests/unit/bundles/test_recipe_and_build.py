from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bundles.build import build
from bundles.errors import Canceled, LeewardError, RecipeInvalid, SourceFailed
from bundles.keys import Keyring
from bundles.layout import open_bundle
from bundles.recipe import load_recipe, parse_recipe
from bundles.sources import SourceContext, make_source
from bundles.sources.folder import FolderSource
from bundles.sources.wheelhouse import write_wheel
from bundles.transfer import silent
from tests.support.small_bundles import NOW, tree
from tests.unit.bundles.site import Site

RECIPES = Path(__file__).parents[3] / "bundles" / "recipes"
SECTIONS = ("weights/target", "weights/draft", "licenses/target", "appliance", "playbooks")
HEAD = 'schema = "leeward-recipe/1"\nname = "small"\nversion = "26.11.0"\nepoch = 1\nrollback_floor = 1\n'
TAIL = """
[expiry]
targets_days = 30
[engine]
kind = "vllm"
version = "0.25.1"
device = "cpu"
served_model_name = "small"
tensor_parallel_size = 1
max_model_len = 256
max_num_seqs = 4
max_num_batched_tokens = 256
kv_cache_dtype = "auto"
num_speculative_tokens = 2
draft_max_model_len = 256
[engine.known_answer]
prompt = "Say pong."
expected = "pong"
max_tokens = 4
[requirements]
gpus = 0
gpu_memory_bytes = 0
memory_bytes = 1
installed_bytes = 1
operating_systems = ["debian-12"]
[[licenses]]
applies_to = "weights/target"
spdx_id = "MIT"
path = "licenses/target/LICENSE"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "recipe"
    files = tree() | {"appliance/requirements.lock": b"leeward\n"}
    metadata = {"leeward-26.11.0.dist-info/METADATA": b"Metadata-Version: 2.4\nName: leeward\nVersion: 26.11.0\n"}
    wheel = write_wheel(tmp_path, name="leeward", version="26.11.0", files=metadata)
    files["appliance/wheels/leeward-26.11.0-py3-none-any.whl"] = wheel.path.read_bytes()
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    contents = "".join(
        f'[[contents]]\ninto = "{part}"\nsource = {{ kind = "folder", path = "{part}" }}\n' for part in SECTIONS
    )
    (folder / "small.toml").write_text(HEAD + contents + TAIL, encoding="utf-8")
    return folder / "small.toml"


def test_a_recipe_becomes_a_bundle_that_a_site_can_import(
    tmp_path: Path, recipe: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(NOW.timestamp())))

    report = build(recipe, out=tmp_path / "out", keyring=keyring, cache=tmp_path / "cache")

    assert report.release.created_at == NOW
    assert report.bootstrap_fingerprint is not None
    assert (tmp_path / "out" / "bootstrap").is_file()
    assert list((tmp_path / "cache").iterdir()) == []
    site = Site.trusting(tmp_path / "site", keyring)
    slot = site.import_(tmp_path / "out")
    assert (slot / "weights/target/params.json").is_file()
    assert json.loads((slot / "sbom/bom.cdx.json").read_text())["bomFormat"] == "CycloneDX"
    assert b"leeward 26.11.0" in (slot / "sbom/THIRD-PARTY-NOTICES.txt").read_bytes()
    targets = next(r for r in site.trust.check(open_bundle(tmp_path / "out"), now=NOW).roles if r.role == "targets")
    assert targets.version == 1


def test_a_keyring_without_enough_keys_is_found_before_anything_is_fetched(
    tmp_path: Path, recipe: Path, keyring: Keyring
) -> None:
    for name in ("targets-1", "targets-2"):
        (keyring.directory / f"{name}.pem").unlink()

    with pytest.raises(LeewardError, match="role targets"):
        build(recipe, out=tmp_path / "out", keyring=keyring, cache=tmp_path / "cache")

    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_a_source_that_delivers_nothing_and_a_stop_before_it_make_no_bundle(
    tmp_path: Path, recipe: Path, keyring: Keyring
) -> None:
    kept = (recipe.parent / "playbooks").rename(tmp_path / "kept")
    (recipe.parent / "playbooks").mkdir()
    with pytest.RaisesExc(SourceFailed, check=lambda error: "playbooks" in error.detail):
        build(recipe, out=tmp_path / "out", keyring=keyring, cache=tmp_path / "cache")
    (recipe.parent / "playbooks").rmdir()
    kept.rename(recipe.parent / "playbooks")
    with pytest.raises(Canceled):
        build(recipe, out=tmp_path / "out", keyring=keyring, cache=tmp_path / "cache", is_canceled=lambda: True)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_that_come_with_leeward_parse(path: Path) -> None:
    assert load_recipe(path).contents


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("leeward-recipe/1", "leeward-recipe/9", "schema"),
        ("epoch = 1", 'epoch = "1"', "epoch must be a whole number"),
        ("epoch = 1", "", "epoch is missing"),
        ("targets_days = 30", "targets_days = 0", "expiry"),
        ("targets_days = 30", "target_days = 30", "unknown fields"),
        ('device = "cpu"', 'device = "abacus"', "engine.device must be one of cuda, cpu"),
        ('into = "playbooks"', 'into = "../playbooks"', "into"),
        ("[engine]", "[engine", "line 2"),
    ],
)
def test_a_recipe_with_a_fault_is_refused_with_its_place(recipe: Path, old: str, new: str, told: str) -> None:
    content = recipe.read_text(encoding="utf-8").replace(old, new, 1).encode()

    with pytest.raises(RecipeInvalid) as caught:
        parse_recipe(content, recipe)

    assert told in caught.value.detail
    assert "small.toml" in caught.value.detail


def context(folder: Path) -> SourceContext:
    return SourceContext(recipe_folder=folder, cache=folder / "cache", progress=silent)


def fetched(folder: Path, **table: object) -> list[str]:
    into = folder / "into"
    into.mkdir()
    FolderSource({"kind": "folder", "path": "src", **table}, context(folder)).fetch(into)
    return sorted(path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for path in ("a.yml", "b.txt", "d/c.yml", "d/e/f.yml", ".git/x", "__pycache__/y.pyc", "d/.hidden"):
        (tmp_path / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / path).write_bytes(b"x")
    return tmp_path


def test_a_folder_gives_all_but_hidden_files_and_leftovers(source: Path) -> None:
    assert fetched(source) == ["a.yml", "b.txt", "d/c.yml", "d/e/f.yml"]


def test_a_folder_includes_and_excludes_by_glob(source: Path) -> None:
    assert fetched(source, include=["**/*.yml"], exclude=["d/e/*"]) == ["a.yml", "d/c.yml"]


def test_a_star_stays_within_one_folder(source: Path) -> None:
    assert fetched(source, include=["*.yml", "[d]/*"]) == ["a.yml", "d/c.yml"]


def test_a_folder_with_a_link_is_refused(source: Path) -> None:
    (source / "src/link.yml").symlink_to("a.yml")

    with pytest.raises(SourceFailed):
        fetched(source)


@pytest.mark.parametrize("table", [{"include": ["*.none"]}, {"path": "nowhere"}])
def test_a_folder_that_gives_nothing_is_refused(source: Path, table: dict[str, object]) -> None:
    with pytest.raises(SourceFailed):
        fetched(source, **table)


@pytest.mark.parametrize(
    "table", [{}, {"kind": "magic"}, {"kind": 1}, {"kind": "folder"}, {"kind": "folder", "path": 3}]
)
def test_a_source_table_that_makes_no_sense_is_refused(tmp_path: Path, table: dict[str, object]) -> None:
    with pytest.raises(RecipeInvalid):
        make_source(table, context(tmp_path))


def test_day_0_copies_no_more_of_a_part_than_its_list_says(tmp_path: Path) -> None:
    """An endless part on a medium must not fill the node's disk before anything was compared."""
    script = (RECIPES.parent / "bootstrap.sh").read_text(encoding="utf-8")
    take = script[script.index("take() {") : script.index("take_under() {")].rstrip()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / f"{'ab' * 32}.p000").write_bytes(bytes(1_000_000))
    limited = f'set -eu; ulimit -f 16; STAGE=$1/stage; MEDIUM=$1; fail() {{ echo "$1"; exit 4; }}; {take}'

    done = subprocess.run(
        ["sh", "-c", f"{limited}; take {'ab' * 32} 3 appliance/x", "sh", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 4
    assert done.stdout == "The content is not what was signed\n"
    assert not any(path.is_file() for path in (tmp_path / "stage").rglob("*"))
