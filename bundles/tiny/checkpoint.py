"""Write tensors as safetensors: eight bytes of header length, a JSON header, the bytes.

Own few lines, for the safetensors package does not write FP8 from NumPy. Format:
https://github.com/huggingface/safetensors#format. Little-endian only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundles.tiny.arrays import BF16, FP8, FP8_MAX, to_fp8
from bundles.tiny.weights import Tensors

Stored = Mapping[str, npt.NDArray[np.generic]]

_NAMES = {FP8: "F8_E4M3", BF16: "BF16", np.dtype(np.float32): "F32"}
ACTIVATION_MAXIMUM = 16.0
"""The static activation scale covers ±16; the stand-in's activations stay below."""


def stored(tensors: Tensors) -> Stored:
    """Return what goes to disk: FP8 for the decoder's linear layers, BF16 for all else.

    Each FP8 tensor has two 0-d float32 companions, `qscale_weight` and `qscale_act`, as in the real
    release; embeddings, output, norms and the vision tower stay BF16.
    """
    result: dict[str, npt.NDArray[np.generic]] = {}
    for name, value in tensors.items():
        if value.ndim == 2 and name.startswith(("layers.", "eagle_linear.")):  # noqa: PLR2004  a matrix
            base = name.removesuffix(".weight")
            result[name], result[f"{base}.qscale_weight"] = to_fp8(value)
            result[f"{base}.qscale_act"] = np.asarray(ACTIVATION_MAXIMUM / FP8_MAX, dtype=np.float32)
        else:
            result[name] = value.astype(BF16)
    return result


def write(tensors: Stored, path: Path) -> None:
    """Write one safetensors file, tensors in name order."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in sorted(tensors):
        value = tensors[name]
        header[name] = {
            "dtype": _NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [offset, offset + value.nbytes],
        }
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in sorted(tensors):
            file.write(np.ascontiguousarray(tensors[name]).tobytes())


def write_sharded(tensors: Stored, folder: Path, *, shards: int) -> None:
    """Write `consolidated-0000N-of-0000M.safetensors` of about equal size, and their index."""
    total = sum(value.nbytes for value in tensors.values())
    parts: list[dict[str, npt.NDArray[np.generic]]] = [{} for _ in range(shards)]
    begun = 0
    for name in sorted(tensors):
        parts[min(begun * shards // total, shards - 1)][name] = tensors[name]
        begun += tensors[name].nbytes
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = f"consolidated-{number:05}-of-{shards:05}.safetensors"
        write(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "consolidated.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
