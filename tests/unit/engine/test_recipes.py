"""The shipped recipes: as far as they can be resolved without a hub or an index."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundles.errors import RecipeInvalid
from bundles.recipe import Content, load_recipe, parse_recipe
from bundles.release import Device
from bundles.sources import SourceContext, make_source
from bundles.tiny import SENTENCE
from tests.unit.engine.releases import RECIPES, TARGET_BYTES

REAL = "mistral-medium-3.5"
UNKNOWN_REVISION = "FILL-IN"
PARTS = {"weights/target", "weights/draft", "licenses/target", "licenses/draft", "engine", "appliance", "playbooks"}


@pytest.fixture
def context(tmp_path: Path) -> SourceContext:
    return SourceContext(recipe_folder=RECIPES, cache=tmp_path, progress=lambda *_: None)


@pytest.mark.parametrize("name", ["tiny", REAL])
def test_recipe_parses_and_names_every_part_of_a_release_once(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.toml")

    folders = [content.into for content in recipe.contents]
    assert set(folders) >= PARTS
    assert len(folders) == len(set(folders))
    assert recipe.release(created_at=datetime(2026, 11, 24, tzinfo=UTC)).slot == f"26.11.0-e{recipe.epoch}"


def test_tiny_recipe_expects_what_its_weights_say_and_needs_no_gpu() -> None:
    recipe = load_recipe(RECIPES / "tiny.toml")

    assert recipe.engine.known_answer.expected == SENTENCE
    assert recipe.engine.device is Device.CPU
    assert recipe.requirements.gpus == 0
    assert recipe.requirements.minimum_driver is None


def test_tiny_recipe_asks_for_the_attestation_that_the_real_weights_will_need() -> None:
    tiny, real = (load_recipe(RECIPES / f"{name}.toml").licenses for name in ("tiny", REAL))

    (shown,) = [entry for entry in tiny if entry.threshold_usd_monthly is not None]
    assert {entry.threshold_usd_monthly for entry in real} == {shown.threshold_usd_monthly} == {20_000_000}
    assert {entry.spdx_id for entry in real} == {shown.spdx_id}
    assert not [entry for entry in tiny if entry.applies_to.startswith("weights/") and entry.spdx_id != "Apache-2.0"]


@pytest.mark.parametrize("into", sorted(PARTS))
def test_every_source_of_the_tiny_recipe_can_be_made(context: SourceContext, into: str) -> None:
    assert make_source(content("tiny", into).source, context)


@pytest.mark.parametrize("into", ["weights/draft", "licenses/draft"])
def test_real_recipe_refuses_to_build_until_the_unknown_revision_is_filled_in(
    context: SourceContext, into: str
) -> None:
    source = content(REAL, into).source

    assert source["revision"] == UNKNOWN_REVISION
    with pytest.raises(RecipeInvalid, match="40 hexadecimal digits"):
        make_source(source, context)


def test_real_recipe_is_complete_but_for_that_revision(context: SourceContext) -> None:
    path = RECIPES / f"{REAL}.toml"
    filled = path.read_text(encoding="utf-8").replace(f'"{UNKNOWN_REVISION}"', f'"{"a" * 40}"')

    recipe = parse_recipe(filled.encode(), path)

    assert [make_source(part.source, context) for part in recipe.contents if part.source["kind"] != "debian"]


def test_real_recipe_takes_one_layout_only_and_no_code() -> None:
    for into in ("weights/target", "weights/draft"):
        patterns = content(REAL, into).source["include"]

        assert isinstance(patterns, list)
        assert "consolidated*.safetensors" in patterns
        assert not [glob for glob in patterns if glob.startswith(("*", "model")) or glob.endswith((".py", ".bin"))]


def test_real_recipe_pins_the_target_at_or_after_the_long_context_fix() -> None:
    """Hashes have no order: the only revision known to be right is the fix itself, of 2026-05-01."""
    assert {content(REAL, into).source["revision"] for into in ("weights/target", "licenses/target")} == {
        "c4be198050fb5789774a55b92ed697becfbf20ae"
    }


def test_real_requirements_follow_from_the_sizes() -> None:
    recipe = load_recipe(RECIPES / f"{REAL}.toml")
    needs, engine = recipe.requirements, recipe.engine

    assert needs.gpus == engine.tensor_parallel_size == 4
    assert needs.minimum_driver == "580.65.06"
    assert engine.max_model_len == 262_144
    assert engine.kv_bytes_per_token == (88 + 2) * 2 * 8 * 128 * 2
    assert needs.installed_bytes > TARGET_BYTES + 4e9 + 4e9 + 12e9
    assert needs.gpu_memory_bytes < 81_559 * 2**20


def content(name: str, into: str) -> Content:
    (found,) = [part for part in load_recipe(RECIPES / f"{name}.toml").contents if part.into == into]
    return found
