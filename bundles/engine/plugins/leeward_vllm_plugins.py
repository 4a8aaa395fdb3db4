"""Three small corrections to vLLM 0.32.0, loaded by its own `vllm.general_plugins` entry points.

vLLM calls each function once in every process it starts. Each does nothing where its defect cannot
be met, or where the place it corrects has moved; no file of vLLM is changed.

| plugin | where | why |
|---|---|---|
| `cpu_fp8` | CPU build | its FP8 quantization operator is a placeholder; loading FP8 weights fails |
| `cpu_spec` | CPU build | vLLM issue 55005: speculation with temperature > 0 samples from uninitialised memory |
| `parser_cache` | all builds | vLLM issue 58145: each chat request compiles a thousand patterns on the event loop |

This file is input data of the build: it is packed into a wheel and runs in the engine's process.
"""

# ruff: noqa: INP001, PLC0415  a single file for the engine's own environment; vLLM is there only when called
from __future__ import annotations

from typing import Any

MARK = "_leeward"
"""Set on each replacement, so that a second call in the same process changes nothing."""

CACHE_ENTRIES = 64
"""Parser configurations differ only by the kind of request; more than this is not one server's life."""


def cpu_fp8() -> None:
    """Quantize to FP8 with plain PyTorch operations on the CPU platform."""
    import torch
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    import vllm._custom_ops as operators

    original = operators.scaled_fp8_quant
    if hasattr(original, MARK):
        return
    kind = torch.float8_e4m3fn
    largest = torch.finfo(kind).max

    def scaled_fp8_quant(  # noqa: PLR0917  the original's signature
        input: torch.Tensor,  # noqa: A002  the original's parameter name, given by keyword
        scale: torch.Tensor | None = None,
        num_token_padding: int | None = None,
        scale_ub: torch.Tensor | None = None,
        use_per_token_if_dynamic: bool = False,  # noqa: FBT001, FBT002  the original's signature
        output: torch.Tensor | None = None,
        group_shape: tuple[int, int] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if scale is not None and scale.numel() != 1:  # not what Mistral ships: let it fail by itself
            result: tuple[torch.Tensor, torch.Tensor] = original(input, scale, output=output, group_shape=group_shape)
            return result
        values = input.float()
        if scale is None:
            peak = values.abs().amax(dim=-1, keepdim=True) if use_per_token_if_dynamic else values.abs().max()
            peak = peak if scale_ub is None else peak.clamp(max=scale_ub)
            scale = (peak / largest).clamp(min=1e-12).to(torch.float32)
        quantized = (values / scale).clamp(-largest, largest).to(kind)
        missing = (num_token_padding or 0) - quantized.shape[0]
        if missing > 0:
            padding = torch.zeros(missing, quantized.shape[1], dtype=torch.uint8).view(kind)
            quantized = torch.cat([quantized, padding])
        if output is None:
            return quantized, scale
        return output.copy_(quantized), scale

    setattr(scaled_fp8_quant, MARK, True)
    operators.scaled_fp8_quant = scaled_fp8_quant


def cpu_spec() -> None:
    """Expand sampling parameters per draft token with plain PyTorch operations on the CPU platform."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    import torch
    from vllm.v1.sample import rejection_sampler

    original = getattr(rejection_sampler, "expand_batch_to_tokens", None)
    if original is None or hasattr(original, MARK):
        return

    def expand_batch_to_tokens(
        x: torch.Tensor, cu_num_tokens: torch.Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
    ) -> torch.Tensor:
        ends = cu_num_tokens.to(torch.int64)
        counts = torch.diff(ends, prepend=ends.new_zeros(1))
        values = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
        expanded = x.new_zeros(num_tokens)
        expanded[: int(ends[-1])] = torch.repeat_interleave(values, counts)
        return expanded

    setattr(expand_batch_to_tokens, MARK, True)
    rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens


def parser_cache() -> None:
    """Build the lexer's table of special tokens once for each configuration instead of each request."""
    try:
        from vllm.parser.engine import streaming_parser_engine as engine

        original = engine._build_drop_info  # noqa: SLF001  the function named in vLLM issue 58145
    except (ImportError, AttributeError):
        return
    if hasattr(original, MARK):
        return
    built: dict[tuple[object, ...], tuple[object, object]] = {}

    def build_drop_info(config: Any, tokenizer: Any) -> Any:  # noqa: ANN401  vLLM's own values pass through
        key = (
            id(tokenizer),
            config.name,
            tuple(sorted(config.terminals.items(), key=lambda item: item[0])),
            tuple(sorted(config.token_id_terminals.items())),
            tuple(sorted(config.preserve_tokens)),
        )
        if key not in built:
            if len(built) >= CACHE_ENTRIES:
                built.clear()
            built[key] = (tokenizer, original(config, tokenizer))  # holds the tokenizer: its id is the key
        return built[key][1]

    setattr(build_drop_info, MARK, True)
    engine._build_drop_info = build_drop_info  # noqa: SLF001  the function named in vLLM issue 58145
