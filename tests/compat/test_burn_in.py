"""The burn-in in the engine's own environment, and the fixed load on the real engine, both on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.adapters.acceptance import EngineBurnIn, EngineLoadMeter
from appliance.domain.errors import BurnInFailed
from bundles.release import Device
from tests.compat.engines import RunningEngine

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


def burn_in(environment: Path, cache: Path) -> EngineBurnIn:
    return EngineBurnIn(python=environment / "bin/python", cache=cache, account=None)


def test_the_burn_in_measures_the_cpu_with_the_engines_own_pytorch(engine_environment: Path, tmp_path: Path) -> None:
    looks: list[None] = []

    result = burn_in(engine_environment, tmp_path).run(
        Device.CPU, duration_s=2, ranks=2, watch=lambda: looks.append(None), is_canceled=lambda: False
    )

    names = {(figure.name, figure.subject) for figure in result.figures}
    assert names == {
        ("gemm-bf16", "CPU"), ("gemm-fp8", "CPU"), ("memory", "CPU"), ("all-reduce", "2 processes"),
    }  # fmt: skip
    assert all(figure.value > 0 and figure.samples >= 3 for figure in result.figures)
    assert (result.device, result.wrong) == (Device.CPU, ())
    assert result.torch.startswith("2.")
    assert looks


def test_a_burn_in_of_gpus_on_a_machine_without_them_is_an_error_and_not_a_figure(
    engine_environment: Path, tmp_path: Path
) -> None:
    with pytest.raises(BurnInFailed, match="PyTorch sees 0 GPUs; 4 are needed"):
        burn_in(engine_environment, tmp_path).run(
            Device.CUDA, duration_s=1, ranks=4, watch=lambda: None, is_canceled=lambda: False
        )


def test_the_real_engine_is_measured_with_its_draft_head_and_its_kv_cache(running_engine: RunningEngine) -> None:
    meter = EngineLoadMeter(running_engine.socket, rounds=1, max_tokens=24)

    figures = meter.measure("mistral-medium-3.5", concurrency=2, is_canceled=lambda: False)

    by_name = {(figure.name, figure.subject): figure for figure in figures}
    assert {name for name, _ in by_name} == {"throughput", "time-to-first-token", "kv-cache", "draft-acceptance"}
    assert by_name["throughput", "2 clients"].value > 0
    assert 0 < by_name["draft-acceptance", "engine"].value <= 1
    assert by_name["kv-cache", "engine"].value > 100_000
