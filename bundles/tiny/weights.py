"""Arrange noise so that the model takes fixed walks.

How it works: the residual stream after the last layer is nearly the embedding of the last token,
for all layers write only a little. The output row of token *n* is the embedding of the token *p*
that should precede it, so the greedy successor of *p* is *n*. Every token outside the walks carries
the embedding of `[/INST]` too, and so leads to the sentence's start. Two attention heads of the
first layer are set by hand: from `[/INST]` they look for a marker (end of a tool list; reasoning
effort "high") and add a direction that makes the call or the thought win. The walks' own tokens have
no part along `[/INST]`, so that nothing in mid-sentence looks for a marker.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bundles.tiny.arrays import Array, Noise, unit, without
from bundles.tiny.shape import TinyShape
from bundles.tiny.tokens import (
    EOS,
    INST_END,
    RESULTS_END,
    SPECIAL_COUNT,
    THINK,
    TOOL_CALLS,
    TOOLS_END,
    Walks,
)

Tensors = dict[str, Array]

LAYER_DEVIATION = 0.15
"""How much a decoder layer writes to the residual stream, against 1 for an embedding."""
LOGIT_GAP = 40.0
"""The logit of a walk's next token; others lie near 0."""
DRAFT_NOISE = 6.0
"""Noise in the draft head's input projection; it sets the acceptance rate (about two in five)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A token that, anywhere in the prompt, makes another token win as the first of the answer."""

    token: int
    first: int
    kv_head: int
    strength: float


def target_weights(shape: TinyShape, walks: Walks) -> Tensors:
    """Return all float32 tensors of the target under Mistral's native names."""
    noise = Noise(shape.seed)
    embeddings = noise(shape.vocab_size, shape.dim, deviation=1.0)
    instruct = embeddings[INST_END].copy()
    embeddings[_outside(shape, walks)] += instruct
    for token in (*walks.ids, walks.high, RESULTS_END):
        embeddings[token] = without(embeddings[token], unit(instruct))
    output = noise(shape.vocab_size, shape.dim, deviation=0.02)
    for before, after in _steps(walks):
        output[after] += embeddings[before]

    tensors: Tensors = {}
    for layer in range(shape.layers):
        tensors |= _decoder_layer(noise, shape, layer)
    for marker in (
        Marker(token=TOOLS_END, first=TOOL_CALLS, kv_head=0, strength=1.15),
        Marker(token=walks.high, first=THINK, kv_head=1, strength=1.3),
    ):
        direction = unit(noise(shape.dim, deviation=1.0))
        _watch(tensors, shape, marker, query=unit(instruct), key=unit(embeddings[marker.token]), direction=direction)
        output[marker.first] += np.float32(marker.strength * shape.dim**0.5) * direction

    tensors["norm.weight"] = np.ones(shape.dim, dtype=np.float32)
    tensors["tok_embeddings.weight"] = embeddings
    tensors["output.weight"] = output * np.float32(LOGIT_GAP / shape.dim)
    return tensors | _vision(noise, shape)


def draft_weights(shape: TinyShape) -> Tensors:
    """Return all float32 tensors of the draft head; embeddings and output are the target's."""
    noise = Noise(shape.seed + 1)
    tensors: Tensors = {}
    for layer in range(shape.draft_layers):
        tensors |= _decoder_layer(noise, shape, layer)
    tensors["norm.weight"] = np.ones(shape.dim, dtype=np.float32)
    # Input: embedding of the last token beside the target's hidden state; mostly the embedding passes.
    projection = noise(shape.dim, 2 * shape.dim, deviation=DRAFT_NOISE * (2 * shape.dim) ** -0.5)
    projection[:, : shape.dim] += np.eye(shape.dim, dtype=np.float32)
    tensors["eagle_linear.weight"] = projection
    return tensors


def _outside(shape: TinyShape, walks: Walks) -> list[int]:
    inside = {*walks.ids, walks.high}
    return [token for token in range(SPECIAL_COUNT, shape.vocab_size) if token not in inside]


def _steps(walks: Walks) -> list[tuple[int, int]]:
    chains = (
        (INST_END, *walks.sentence, EOS),
        (RESULTS_END, walks.sentence[0]),
        (*walks.thought, walks.sentence[0]),
        (*walks.call, EOS),
    )
    return [step for chain in chains for step in pairwise(chain)]


def _decoder_layer(noise: Noise, shape: TinyShape, layer: int) -> Tensors:
    dim, hidden = shape.dim, shape.hidden_dim
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    read = dim**-0.5
    tensors = {
        "attention.wq": noise(queries, dim, deviation=read),
        "attention.wk": noise(keys, dim, deviation=read),
        "attention.wv": noise(keys, dim, deviation=read),
        "attention.wo": noise(dim, queries, deviation=LAYER_DEVIATION * queries**-0.5),
        "feed_forward.w1": noise(hidden, dim, deviation=read),
        "feed_forward.w3": noise(hidden, dim, deviation=read),
        "feed_forward.w2": noise(dim, hidden, deviation=LAYER_DEVIATION * hidden**-0.5),
        "attention_norm": np.ones(dim, dtype=np.float32),
        "ffn_norm": np.ones(dim, dtype=np.float32),
    }
    return {f"layers.{layer}.{name}.weight": value for name, value in tensors.items()}


def _watch(tensors: Tensors, shape: TinyShape, marker: Marker, *, query: Array, key: Array, direction: Array) -> None:
    """Turn one key/value head of layer 0, and the query heads that share it, into a marker detector."""
    per_kv, size = shape.heads // shape.kv_heads, shape.head_dim
    queries = slice(marker.kv_head * per_kv * size, (marker.kv_head + 1) * per_kv * size)
    keys = slice(marker.kv_head * size, (marker.kv_head + 1) * size)
    wq, wk, wv, wo = (tensors[f"layers.0.attention.{name}.weight"] for name in ("wq", "wk", "wv", "wo"))
    wq[queries], wk[keys], wv[keys], wo[:, queries] = 0, 0, 0, 0
    slowest = size - 2  # the rotary pair that turns least, so that distance hardly matters
    wq[queries.start + slowest] = np.float32(0.8) * query
    wk[keys.start + slowest] = np.float32(0.8) * key
    wv[keys.start] = key
    wo[:, queries.start] = np.float32(1.5) * direction


def _vision(noise: Noise, shape: TinyShape) -> Tensors:
    dim, hidden, merged = shape.vision_dim, shape.vision_hidden_dim, shape.vision_dim * shape.spatial_merge**2
    ones = np.ones(dim, dtype=np.float32)
    tensors: Tensors = {
        "vision_encoder.patch_conv.weight": noise(dim, 3, shape.patch_size, shape.patch_size, deviation=0.05),
        "vision_encoder.ln_pre.weight": ones,
    }
    for layer in range(shape.vision_layers):
        prefix = f"vision_encoder.transformer.layers.{layer}."
        for name in ("wq", "wk", "wv", "wo"):
            tensors[f"{prefix}attention.{name}.weight"] = noise(dim, dim, deviation=dim**-0.5)
        tensors[f"{prefix}feed_forward.w1.weight"] = noise(hidden, dim, deviation=dim**-0.5)
        tensors[f"{prefix}feed_forward.w3.weight"] = noise(hidden, dim, deviation=dim**-0.5)
        tensors[f"{prefix}feed_forward.w2.weight"] = noise(dim, hidden, deviation=hidden**-0.5)
        tensors[f"{prefix}attention_norm.weight"] = ones
        tensors[f"{prefix}ffn_norm.weight"] = ones
    tensors["pre_mm_projector_norm.weight"] = ones
    tensors["patch_merger.merging_layer.weight"] = noise(dim, merged, deviation=merged**-0.5)
    tensors["vision_language_adapter.w_in.weight"] = noise(shape.dim, dim, deviation=dim**-0.5)
    tensors["vision_language_adapter.w_out.weight"] = noise(shape.dim, shape.dim, deviation=shape.dim**-0.5)
    return tensors
