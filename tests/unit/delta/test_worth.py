"""What a delta would be worth, told when a bundle is built, is what the delta then carries."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bundles.cli import bundle
from bundles.delta.worth import worth
from bundles.errors import ContentMismatch
from bundles.keys import Keyring
from tests.unit.bundles.site import blob_of, flip_bit
from tests.unit.bundles.test_recipe_and_build import recipe
from tests.unit.delta.conftest import SHARD, Journey
from tests.unit.delta.weights import many, safetensors_file

__all__ = ["recipe"]


def test_the_worth_is_what_a_delta_then_carries_section_by_section(journey: Journey) -> None:
    first = journey.release({SHARD: safetensors_file(many())})
    journey.site.import_(first.path)
    second = journey.release(
        {SHARD: safetensors_file(many(changed=frozenset({3}))), "playbooks/site.yml": b"- hosts: all\n"}, epoch=2
    )

    found = worth(second, first)

    report = journey.delta(second)
    assert found == report.sections
    assert 0 < sum(one.carried_bytes for one in found) == report.carried_bytes < report.release.size_bytes


def test_a_damaged_bundle_is_worth_nothing_that_could_be_told(journey: Journey) -> None:
    first = journey.release({SHARD: safetensors_file(many())})
    second = journey.release({SHARD: safetensors_file(many(changed=frozenset({3})))}, epoch=2)
    flip_bit(blob_of(first.path, SHARD), 5000)

    with pytest.raises(ContentMismatch, match=SHARD):
        worth(second, first)


def test_build_tells_what_a_delta_from_an_earlier_bundle_would_be_worth(
    recipe: Path,
    keyring: Keyring,
    tmp_path: Path,
) -> None:
    def build(name: str, *more: object) -> str:
        arguments = ["build", recipe, "--out", tmp_path / name, "--keys", keyring.directory, "--cache", tmp_path / "c"]
        done = CliRunner().invoke(bundle, [str(one) for one in (*arguments, *more)])
        assert done.exit_code == 0, done.output
        return done.output

    build("first")
    recipe.write_text(recipe.read_text().replace("epoch = 1", "epoch = 2"))
    (recipe.parent / "playbooks/site.yml").write_text("- hosts: changed\n")

    told = build("second", "--since", tmp_path / "first")

    assert "As a delta for a site that holds small 26.11.0, epoch 1:" in told
    (weights,) = [line for line in told.splitlines() if "weights/target" in line and "travel" in line]
    assert weights.endswith("bytes travel (  0.0 %)")
    (playbooks,) = [line for line in told.splitlines() if "playbooks" in line and "travel" in line]
    assert playbooks.endswith("bytes travel (100.0 %)")
