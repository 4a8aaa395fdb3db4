from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from appliance.domain.engine import EngineSpec, engine_variables
from appliance.domain.errors import Misfit
from tests.unit.engine.releases import release

SLOT = PurePosixPath("/var/lib/leeward/slots/26.11.0-e1")


def spec(name: str, **engine: object) -> EngineSpec:
    return EngineSpec.of(release(name, **engine), SLOT)


def value_of(arguments: tuple[str, ...], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_engine_serves_the_slots_weights_on_a_unix_socket_alone() -> None:
    arguments = spec("mistral-medium-3.5").arguments

    assert arguments[:2] == ("serve", f"{SLOT}/weights/target")
    assert value_of(arguments, "--uds") == "/run/leeward-engine/engine.sock"
    assert not {"--host", "--port", "--api-key"} & set(arguments)


def test_draft_head_comes_from_the_same_slot() -> None:
    config = json.loads(value_of(spec("mistral-medium-3.5").arguments, "--speculative-config"))

    assert config == {
        "method": "eagle",
        "model": f"{SLOT}/weights/draft",
        "num_speculative_tokens": 3,
        "max_model_len": 65_536,
    }


def test_release_without_drafting_asks_for_none() -> None:
    assert "--speculative-config" not in spec("tiny", num_speculative_tokens=0).arguments


def test_engine_reads_the_native_layout_everywhere() -> None:
    arguments = spec("tiny").arguments

    assert {value_of(arguments, f"--{part}") for part in ("tokenizer-mode", "config-format", "load-format")} == {
        "mistral"
    }


def test_cuda_engine_uses_no_kernel_that_must_be_compiled_or_fetched() -> None:
    cuda = spec("mistral-medium-3.5")

    assert value_of(cuda.arguments, "--attention-backend") == "FLASH_ATTN"
    assert value_of(cuda.arguments, "--gpu-memory-utilization") == "0.92"
    assert value_of(cuda.arguments, "--tensor-parallel-size") == "4"
    assert "--enforce-eager" not in cuda.arguments
    assert cuda.environment["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert cuda.environment["FLASHINFER_NO_DOWNLOAD"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" not in cuda.environment


def test_cpu_engine_compiles_nothing_and_asks_for_no_gpu() -> None:
    cpu = spec("tiny")

    assert "--enforce-eager" in cpu.arguments
    assert not {"--gpu-memory-utilization", "--attention-backend"} & set(cpu.arguments)
    assert cpu.environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert "FLASHINFER_NO_DOWNLOAD" not in cpu.environment
    assert cpu.environment["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("name", ["tiny", "mistral-medium-3.5"])
def test_engine_has_no_way_out_and_shares_no_cache(name: str) -> None:
    engine = spec(name)
    environment = engine.environment

    assert environment["VLLM_NO_USAGE_STATS"] == environment["HF_HUB_OFFLINE"] == "1"
    assert environment["VLLM_HOST_IP"] == "127.0.0.1"
    assert value_of(engine.arguments, "--allowed-media-domains") == "none.invalid"
    assert "VLLM_SERVER_DEV_MODE" not in environment
    assert not {"--enable-log-requests", "--enable-log-outputs", "--trust-remote-code"} & set(engine.arguments)
    folders = [value for key, value in environment.items() if key.endswith(("_DIR", "_ROOT", "HOME"))]
    assert folders
    assert {value for value in folders if not value.startswith("/var/cache/leeward-engine")} == set()


def test_variables_have_the_names_and_shapes_that_the_role_takes() -> None:
    variables = engine_variables(release("tiny"), SLOT)

    assert set(variables) == {"engine_vllm_arguments", "engine_vllm_environment"}
    assert variables["engine_vllm_arguments"] == list(spec("tiny").arguments)
    assert variables["engine_vllm_environment"] == spec("tiny").environment


def test_release_without_an_engine_is_refused() -> None:
    with pytest.raises(Misfit, match="holds no engine"):
        engine_variables(replace(release("tiny"), engine=None), SLOT)
