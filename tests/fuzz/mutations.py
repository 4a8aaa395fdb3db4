"""Ways to spoil good bytes, driven by one source of chance: at random, or in places that a format cares for."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1 << 63,
    1 << 64,
    10**400,
    1e308,
    "",
    "../../etc/passwd",
    "/dev/zero",
    "a\u0000b",
    "\ud800",
    "\u202e",
    "0" * 64,
    "x" * 5000,
    [],
    {},
    [[]],
    {"": ""},
)
_TOKENS = (b"{", b"}", b"[" * 3000, b'"', b",", b":", b"\\", b"\x00", b"\xff", b"NaN", b"1e999", b"-0", b" ", b"\n")


def mutated(content: bytes, chance: Random) -> bytes:
    """Return `content`, spoiled in one to four ways."""
    for _ in range(chance.randint(1, 4)):
        content = chance.choice(_WAYS)(content, chance)
    return content


def _flip(content: bytes, chance: Random) -> bytes:
    if not content:
        return b"\x00"
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :]


def _cut(content: bytes, chance: Random) -> bytes:
    begin = chance.randint(0, len(content))
    return content[:begin] + content[chance.randint(begin, len(content)) :]


def _insert(content: bytes, chance: Random) -> bytes:
    at = chance.randint(0, len(content))
    return content[:at] + chance.choice(_TOKENS) + content[at:]


def _repeat(content: bytes, chance: Random) -> bytes:
    begin = chance.randint(0, len(content))
    end = min(len(content), begin + chance.randint(0, 200))
    return content[:end] + content[begin:end] + content[end:]


def _length(content: bytes, chance: Random) -> bytes:
    """Change the eight bytes of length that begin a safetensors file."""
    return chance.choice([0, 1, len(content), 1 << 25, (1 << 64) - 1]).to_bytes(8, "little") + content[8:]


def _json(content: bytes, chance: Random) -> bytes:
    """Put a hostile value somewhere into the JSON, or take a member away."""
    prefix = b"" if content[:1] in b"{[" else content[:8]
    try:
        plain: Any = json.loads(content[len(prefix) :])
    except (ValueError, RecursionError):
        return _insert(content, chance)
    place = _somewhere(plain, chance)
    if place is None:
        plain = chance.choice(HOSTILE)
    else:
        container, key = place
        if chance.random() < 0.2 and isinstance(container, dict):
            del container[key]
        else:
            container[key] = chance.choice(HOSTILE)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=chance.random() < 0.3)
    encoded = text.encode("utf-8", errors="surrogatepass")
    return (len(encoded).to_bytes(8, "little") if prefix else b"") + encoded


def _somewhere(plain: Any, chance: Random) -> tuple[Any, Any] | None:  # noqa: ANN401  any JSON
    """Choose a member at any depth."""
    found = None
    while isinstance(plain, dict | list) and plain:
        key: Any = chance.choice(sorted(plain)) if isinstance(plain, dict) else chance.randrange(len(plain))
        found = (plain, key)
        if chance.random() < 0.3:
            break
        plain = plain[key]
    return found


_WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (_flip, _cut, _insert, _repeat, _length, _json, _json, _json)
