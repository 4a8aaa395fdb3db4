"""The figures are those of facts recorded on 2026-11-23: 4 GPUs, weights 137.6 GB, 6 GiB each assumed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.domain.errors import GpuMissing, Misfit
from appliance.domain.fit import KvBudget, fit, kv_budget
from appliance.domain.node import NodeFacts
from tests.unit.engine.releases import A100, H100, H200, node, release

REAL = "mistral-medium-3.5"
FP8_KV = {"kv_cache_dtype": "fp8", "kv_bytes_per_token": 184_320}


def budget(facts: NodeFacts, **engine: object) -> KvBudget:
    real = release(REAL, **engine)
    assert real.engine is not None
    found = kv_budget(real, real.engine, facts.gpus)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("facts", "engine", "tokens", "sequences"),
    [
        (node(H100), {}, 410_000, 1.6),
        (node(H100), FP8_KV, 821_000, 3.1),
        (node(H100), {"gpu_memory_utilization": 0.8}, 300_000, 1.1),
        (node(H200), {}, 1_062_000, 4.1),
        (node(H200), FP8_KV, 2_124_000, 8.1),
    ],
)
def test_kv_arithmetic_gives_the_recorded_figures(
    facts: NodeFacts, engine: dict[str, object], tokens: int, sequences: float
) -> None:
    found = budget(facts, **engine)

    assert found.tokens == pytest.approx(tokens, rel=0.01)
    assert found.sequences == pytest.approx(sequences, abs=0.1)


@pytest.mark.parametrize("model", [H100, H200])
def test_real_release_fits_on_four_hopper_gpus(model: tuple[str, int, tuple[int, int]]) -> None:
    spec = fit(release(REAL), node(model))

    assert str(spec.target) == "/var/lib/leeward/slots/26.11.0-e1/weights/target"
    assert spec.engine.tensor_parallel_size == 4


def test_tiny_release_fits_on_a_node_without_gpus() -> None:
    assert "--enforce-eager" in fit(release("tiny"), node(gpus=0, memory_gb=8)).arguments


def test_misfit_shows_its_arithmetic() -> None:
    too_long = release(REAL, max_model_len=524_288)

    with pytest.raises(Misfit) as caught:
        fit(too_long, node(H100))

    assert "weights take 137.6 GB" in caught.value.detail
    assert "tokens of 368,640 bytes" in caught.value.detail
    assert "one request of 524,288 tokens needs 193.3 GB" in caught.value.detail
    assert "FP8 KV cache" in caught.value.remedy


def test_smallest_gpu_counts_for_all() -> None:
    mixed = node(H200)
    small = node(H100).gpus[3]

    assert budget(replace(mixed, gpus=(*mixed.gpus[:3], small))).usable_bytes == budget(node(H100)).usable_bytes


def test_only_weights_count_as_weights() -> None:
    assert budget(node(H100)).weights_bytes == 133_605_834_656 + 4_000_000_000


def test_release_that_states_no_bytes_per_token_is_not_guessed_at() -> None:
    silent = release(REAL, kv_bytes_per_token=None)

    assert silent.engine is not None
    assert kv_budget(silent, silent.engine, node(H100).gpus) is None
    assert fit(silent, node(H100))


@pytest.mark.parametrize("facts", [node(H100, gpus=3), node(H100, gpus=0)])
def test_missing_gpus_are_named_as_such(facts: NodeFacts) -> None:
    with pytest.raises(GpuMissing, match=f"needs 4 GPUs; the driver shows {len(facts.gpus)}"):
        fit(release(REAL), facts)


@pytest.mark.parametrize("driver", ["570.195.03", "580.65.05"])
def test_driver_older_than_the_engines_cuda_is_a_misfit(driver: str) -> None:
    with pytest.raises(Misfit, match=r"580\.65\.06"):
        fit(release(REAL), node(H100, driver=driver))


def test_gpu_without_fp8_is_a_misfit() -> None:
    with pytest.raises(Misfit, match=r"compute capability 8\.0"):
        fit(release(REAL), node(A100))


def test_too_little_main_memory_is_a_misfit() -> None:
    with pytest.raises(Misfit, match=r"128\.0 GB of main memory; this node has 64\.0 GB"):
        fit(release(REAL), node(H100, memory_gb=64))


def test_release_without_requirements_is_a_misfit() -> None:
    with pytest.raises(Misfit, match="states no requirements"):
        fit(replace(release(REAL), requirements=None), node(H100))
