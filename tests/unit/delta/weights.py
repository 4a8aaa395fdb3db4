"""Small safetensors files of which each tensor has bytes of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def noise(seed: str, length: int) -> bytes:
    """Return `length` bytes that depend on `seed` only and repeat nowhere."""
    return hashlib.shake_256(seed.encode()).digest(length)


def safetensors_file(tensors: Mapping[str, bytes], *, note: str = "") -> bytes:
    """Return a safetensors file with `tensors` in the order given; `note` grows the header."""
    header: dict[str, object] = {"__metadata__": {"note": note}}
    offset = 0
    for name, content in tensors.items():
        header[name] = {
            "dtype": "U8",
            "shape": [len(content)],
            "data_offsets": [offset, offset + len(content)],
        }
        offset += len(content)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(tensors.values())


def many(count: int = 50, *, size: int = 2000, changed: frozenset[int] = frozenset()) -> dict[str, bytes]:
    """Return `count` tensors; those in `changed` have other bytes than usual."""
    return {
        f"layers.{number}.w": noise(f"{number}{'*' if number in changed else ''}", size + number)
        for number in range(count)
    }
