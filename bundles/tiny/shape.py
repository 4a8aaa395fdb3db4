"""Sizes of the stand-in, and the `params.json` texts that follow from them.

The keys are those of Mistral's native layout as vLLM 0.32.0 reads them
(`vllm/transformers_utils/configs/mistral.py`); the head counts allow tensor parallelism up to 4.
"""

from __future__ import annotations

from dataclasses import dataclass

NOTE = "Stand-in input data: arranged random weights, no knowledge. Not a Mistral AI model."
ORIGINAL_CONTEXT = 4096
"""YaRN's original context; the real model has 4096 * 64 = 262,144."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """Sizes of target, draft head and vision tower. `head_dim` must be one the CPU attention takes."""

    seed: int = 7
    vocab_size: int = 16_384
    dim: int = 256
    layers: int = 4
    draft_layers: int = 2
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    hidden_dim: int = 512
    context: int = 262_144
    vision_dim: int = 128
    vision_layers: int = 2
    vision_heads: int = 4
    vision_hidden_dim: int = 256
    image_size: int = 224
    patch_size: int = 14
    spatial_merge: int = 2

    def text_params(self, layers: int) -> dict[str, object]:
        """Return the language model's part of `params.json`, with `layers` decoder layers."""
        return {
            "leeward_note": NOTE,
            "dim": self.dim,
            "n_layers": layers,
            "head_dim": self.head_dim,
            "hidden_dim": self.hidden_dim,
            "n_heads": self.heads,
            "n_kv_heads": self.kv_heads,
            "rope_theta": 1e6,
            "norm_eps": 1e-5,
            "vocab_size": self.vocab_size,
            "tied_embeddings": False,
            "max_position_embeddings": self.context,
            "yarn": {
                "original_max_position_embeddings": ORIGINAL_CONTEXT,
                "factor": self.context // ORIGINAL_CONTEXT,
                "apply_scale": False,
                "beta": 4,
                "alpha": 1,
            },
            "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
        }

    def target_params(self) -> dict[str, object]:
        """Return the target's `params.json`: language model and vision tower."""
        vision = {
            "hidden_size": self.vision_dim,
            "num_channels": 3,
            "image_size": self.image_size,
            "max_image_size": self.image_size,
            "patch_size": self.patch_size,
            "rope_theta": 10_000.0,
            "intermediate_size": self.vision_hidden_dim,
            "num_hidden_layers": self.vision_layers,
            "num_attention_heads": self.vision_heads,
            "adapter_bias": False,
            "mm_projector_id": "patch_merge",
            "spatial_merge_size": self.spatial_merge,
            "add_pre_mm_projector_layer_norm": True,
            "image_token_id": 10,
            "image_break_token_id": 12,
            "image_end_token_id": 13,
        }
        return self.text_params(self.layers) | {"vision_encoder": vision}

    def draft_params(self) -> dict[str, object]:
        """Return the draft head's `params.json`: the target's trunk with fewer layers, no vision tower."""
        return self.text_params(self.draft_layers)


TINY = TinyShape()
"""The one shape that the `tiny-medium` release has."""
