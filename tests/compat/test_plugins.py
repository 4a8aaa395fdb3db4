"""Our three plugins inside the real vLLM: what they replace, they replace with the same meaning."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

SCRIPT = """
import torch
import leeward_vllm_plugins as plugins

from vllm.parser.engine import streaming_parser_engine as engine
calls = []
def build(config, tokenizer):
    calls.append(config)
    return object()
engine._build_drop_info = build

for plugin in (plugins.cpu_fp8, plugins.cpu_spec, plugins.parser_cache):
    plugin()
import vllm._custom_ops as operators
from vllm.v1.sample import rejection_sampler as sampler
once = (operators.scaled_fp8_quant, sampler.expand_batch_to_tokens, engine._build_drop_info)
for plugin in (plugins.cpu_fp8, plugins.cpu_spec, plugins.parser_cache):
    plugin()
assert once == (operators.scaled_fp8_quant, sampler.expand_batch_to_tokens, engine._build_drop_info), "twice"

expanded = sampler.expand_batch_to_tokens(torch.tensor([5.0, 0.0, 7.0]), torch.tensor([2, 5, 6]), 6, 0, 1)
assert expanded.tolist() == [5, 5, 1, 1, 1, 7], expanded

values = torch.tensor([[1.0, -2.0], [1000.0, 0.5]])
quantized, scale = operators.scaled_fp8_quant(values, torch.tensor(2.0))
assert quantized.float().tolist() == [[0.5, -1.0], [448.0, 0.25]], quantized
padded, _ = operators.scaled_fp8_quant(values, torch.tensor(2.0), num_token_padding=3)
assert padded.shape == (3, 2) and padded[2].float().tolist() == [0.0, 0.0]
rows, scales = operators.scaled_fp8_quant(values, use_per_token_if_dynamic=True)
assert scales.shape == (2, 1) and torch.allclose(rows.float() * scales, values, rtol=0.07)

from vllm.parser.engine.parser_engine_config import ParserEngineConfig
tokenizer, other = object(), object()
one, same, different = (ParserEngineConfig(name=n, terminals={"A": "[A]"}) for n in ("m", "m", "n"))
first = engine._build_drop_info(one, tokenizer)
assert engine._build_drop_info(same, tokenizer) is first
assert engine._build_drop_info(different, tokenizer) is not first
assert engine._build_drop_info(one, other) is not first
assert len(calls) == 3, calls
print("all good")
"""


def test_plugins_mean_what_they_replace_and_a_second_call_changes_nothing(engine_environment: Path) -> None:
    done = subprocess.run(
        [str(engine_environment / "bin" / "python"), "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("all good")
