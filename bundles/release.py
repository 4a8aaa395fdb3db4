"""The release manifest: what one bundle holds, and the rules that bind it.

`release.json` is a TUF target. It names every file with its size, SHA-256 and the SHA-256 of each
16 MiB leaf, binds the draft head to its target, and carries epoch, requirements and licence terms.
Pure: bytes in, values out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SCHEMA = "leeward-release/1"
LEAF_BYTES = 16 * 1024 * 1024
PART_BYTES = 255 * LEAF_BYTES
"""The largest part: 4,278,190,080 bytes, which FAT32 can hold."""


class BundleKind(StrEnum):
    """What a bundle is for; both kinds are read by the same verifier."""

    RELEASE = "release"
    EVIDENCE = "evidence"


class Device(StrEnum):
    """What the engine's build computes on."""

    CUDA = "cuda"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file: POSIX relative path, size, SHA-256 (hex) of the whole and of each 16 MiB leaf."""

    path: str
    size_bytes: int
    sha256: str
    leaves: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLock:
    """The binding of draft head to target.

    `target_digest` is the SHA-256 over `path NUL sha256 LF` of every file under `weights/target/`,
    in path order; `draft_digest` the same under `weights/draft/`.
    """

    target_digest: str
    draft_digest: str
    vocabulary_size: int
    hidden_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswer:
    """A greedy question whose answer shows that the engine serves the right weights."""

    prompt: str
    expected: str
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRelease:
    """How this release's engine is served. Names are vLLM's, to the letter."""

    kind: str
    version: str
    device: Device
    served_model_name: str
    tensor_parallel_size: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_cache_dtype: str
    gpu_memory_utilization: float | None
    num_speculative_tokens: int
    draft_max_model_len: int
    known_answer: KnownAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a node must have. Zero GPUs: the engine's build computes on the CPU."""

    gpus: int
    gpu_memory_bytes: int
    minimum_driver: str | None
    memory_bytes: int
    installed_bytes: int
    operating_systems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseEntry:
    """A licence text inside the bundle and what it covers."""

    applies_to: str
    spdx_id: str
    path: str
    threshold_usd_monthly: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Everything that `release.json` says. An evidence bundle has no pair, engine or requirements."""

    kind: BundleKind
    name: str
    version: str
    epoch: int
    rollback_floor: int
    created_at: datetime
    files: tuple[FileEntry, ...]
    licenses: tuple[LicenseEntry, ...]
    pair: PairLock | None
    engine: EngineRelease | None
    requirements: Requirements | None

    @property
    def slot(self) -> str:
        """The name of the slot that this release fills."""
        return f"{self.version}-e{self.epoch}"

    @property
    def size_bytes(self) -> int:
        """The sum of all file sizes."""
        return sum(f.size_bytes for f in self.files)

    def file(self, path: str) -> FileEntry:
        """Return the entry for `path`; raises KeyError where there is none."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise KeyError(path)
