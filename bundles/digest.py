"""SHA-256 over bytes, leaves and trees. Pure.

SHA-256 is the only signed hash: FIPS 180-4, equal to the Hugging Face LFS oid, and the default of
OpenSSF Model Signing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

SHA256_HEX = re.compile(r"[0-9a-f]{64}")
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def sha256_hex(content: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of `content` in lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def is_sha256_hex(text: str) -> bool:
    """Whether `text` is a SHA-256 in lower-case hex."""
    return SHA256_HEX.fullmatch(text) is not None


def pieces(size_bytes: int, piece_bytes: int) -> int:
    """Return how many pieces of at most `piece_bytes` a file of `size_bytes` has; an empty file has none."""
    return -(-size_bytes // piece_bytes)


def tree_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 over `path NUL sha256 LF` of every (path, sha256), in path order.

    Unlike a digest over digests alone, names are bound too: renaming a file changes the result.
    """
    lines = (f"{path}\0{sha256}\n" for path, sha256 in sorted(files))
    return sha256_hex("".join(lines).encode())
