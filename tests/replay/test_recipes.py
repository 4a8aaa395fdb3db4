"""The requirements of our own recipes, asked of the nodes that they were written for."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.domain.preflight import Outcome
from appliance.services import preflight
from bundles.codec import from_plain
from bundles.release import Device, Release, Requirements
from tests.nodes import node
from tests.unit.checks.releases import CPU, CUDA

RECIPES = Path(__file__).parents[2] / "bundles" / "recipes"


def release(name: str) -> Release:
    """Return a release with the requirements and the engine's figures of a recipe."""
    recipe = tomllib.loads((RECIPES / f"{name}.toml").read_text())
    device = Device(recipe["engine"]["device"])
    base = CPU if device is Device.CPU else CUDA
    assert base.engine is not None
    return replace(
        base,
        engine=replace(base.engine, device=device, tensor_parallel_size=recipe["engine"]["tensor_parallel_size"]),
        requirements=from_plain({"minimum_driver": None} | recipe["requirements"], Requirements),
    )


@pytest.mark.parametrize(
    ("recipe", "name"),
    [("mistral-medium-3.5", "four-h100"), ("mistral-medium-3.5", "four-h200"), ("tiny", "lab-node")],
)
def test_a_node_that_a_recipe_was_written_for_passes_every_check(recipe: str, name: str) -> None:
    findings = preflight.evaluate(node(name), release(recipe))

    assert [finding for finding in findings if finding.outcome is not Outcome.PASS] == []


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("lab-node", "gpu-count"),
        ("wrong-driver", "gpu-driver"),
        ("wrong-gpu-lost", "gpu-count"),
        ("wrong-gpu-memory", "gpu-memory"),
        ("wrong-memory", "memory"),
        ("wrong-system", "operating-system"),
    ],
)
def test_the_real_release_is_kept_off_a_node_that_cannot_serve_it(name: str, check: str) -> None:
    stops = preflight.blocking(preflight.evaluate(node(name), release("mistral-medium-3.5")))

    assert check in {finding.check for finding in stops}
