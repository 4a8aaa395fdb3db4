"""Write the stand-in's folders. Each call leaves the named files and nothing else."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from bundles.tiny import checkpoint
from bundles.tiny.shape import NOTE, TINY, TinyShape
from bundles.tiny.tokens import SENTENCE, Walks, tekken_text
from bundles.tiny.weights import draft_weights, target_weights

SHARDS = 2
"""The real release is sharded too; its number of native shards is not published."""


def write_target(into: Path, shape: TinyShape = TINY) -> None:
    """Write the target: params.json, tekken.json, two shards with index, README.md."""
    into.mkdir(parents=True, exist_ok=True)
    tekken = into / "tekken.json"
    tekken.write_text(tekken_text(shape), encoding="utf-8")
    tensors = checkpoint.stored(target_weights(shape, Walks.of(tekken)))
    checkpoint.write_sharded(tensors, into, shards=SHARDS)
    _write_json(into / "params.json", shape.target_params())
    (into / "README.md").write_text(_readme("target", f'Greedy answer: "{SENTENCE}"'), encoding="utf-8")


def write_draft(into: Path, shape: TinyShape = TINY) -> None:
    """Write the EAGLE head: params.json, consolidated.safetensors, README.md."""
    into.mkdir(parents=True, exist_ok=True)
    checkpoint.write(checkpoint.stored(draft_weights(shape)), into / "consolidated.safetensors")
    _write_json(into / "params.json", shape.draft_params())
    (into / "README.md").write_text(_readme("draft head", "It drafts for the stand-in target only."), encoding="utf-8")


def write_license(into: Path) -> None:
    """Write the texts: Apache-2.0 for the stand-in, and the clause that governs the real weights."""
    into.mkdir(parents=True, exist_ok=True)
    for text in sorted(files("bundles.tiny").joinpath("licenses").iterdir(), key=lambda entry: entry.name):
        (into / text.name).write_bytes(text.read_bytes())


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _readme(part: str, line: str) -> str:
    return f"# Leeward's tiny stand-in: {part}\n\n{NOTE}\n\n{line}\n\nMade by `bundles.tiny`; Apache-2.0.\n"
