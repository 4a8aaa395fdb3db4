"""Small, complete bundles for tests: a keyring, a release of a few kilobytes, and its medium."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bundles.keys import Keyring
from bundles.publish import BuildReport, publish
from bundles.release import (
    BundleKind,
    Device,
    EngineRelease,
    KnownAnswer,
    LicenseEntry,
    Release,
    Requirements,
)

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


def safetensors_bytes(content: bytes, name: str = "w") -> bytes:
    """Return a safetensors file with one tensor of bytes."""
    header = json.dumps({name: {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    return len(header).to_bytes(8, "little") + header + content


def params(*, dim: int = 64, vocab_size: int = 256, n_layers: int = 2) -> bytes:
    """Return a params.json in Mistral's native layout."""
    return json.dumps({"dim": dim, "n_layers": n_layers, "vocab_size": vocab_size}).encode()


def tree(seed: int = 1, *, shard_bytes: int = 3000, **draft: int) -> dict[str, bytes]:
    """Return the files of a small release; `draft` goes into the draft head's params.json."""
    return {
        "weights/target/params.json": params(),
        "weights/target/consolidated.safetensors": safetensors_bytes(bytes([seed]) * shard_bytes),
        "weights/target/tekken.json": b"{}",
        "weights/draft/params.json": params(**draft),
        "weights/draft/consolidated.safetensors": safetensors_bytes(bytes([seed, 2]) * 500),
        "licenses/target/LICENSE": b"licence text\n",
        "playbooks/site.yml": b"- hosts: all\n",
        "playbooks/roles/empty/tasks/main.yml": b"",
    }


def blank_release(*, epoch: int = 1, version: str = "26.11.0", rollback_floor: int = 1) -> Release:
    """Return a release without files and pair, as `publish` takes it."""
    return Release(
        kind=BundleKind.RELEASE,
        name="small",
        version=version,
        epoch=epoch,
        rollback_floor=rollback_floor,
        created_at=NOW,
        files=(),
        licenses=(
            LicenseEntry(
                applies_to="target", spdx_id="Apache-2.0", path="licenses/target/LICENSE", threshold_usd_monthly=None
            ),
        ),
        pair=None,
        engine=EngineRelease(
            kind="vllm",
            version="0.25.1",
            device=Device.CPU,
            served_model_name="small",
            tensor_parallel_size=1,
            max_model_len=256,
            max_num_seqs=4,
            max_num_batched_tokens=256,
            kv_cache_dtype="auto",
            gpu_memory_utilization=None,
            num_speculative_tokens=2,
            draft_max_model_len=256,
            known_answer=KnownAnswer(prompt="Say pong.", expected="pong", max_tokens=4),
        ),
        requirements=Requirements(
            gpus=0,
            gpu_memory_bytes=0,
            minimum_driver=None,
            memory_bytes=1 << 30,
            installed_bytes=1 << 20,
            operating_systems=("debian-12",),
        ),
    )


def write_bundle(
    out: Path, keyring: Keyring, *, release: Release | None = None, files: Mapping[str, bytes] | None = None
) -> BuildReport:
    """Publish a small bundle to `out`."""
    return publish(dict(files) if files is not None else tree(), release or blank_release(), keyring, out=out, now=NOW)
