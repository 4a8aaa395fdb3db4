"""Releases to ask about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from bundles.release import (
    BundleKind,
    Device,
    EngineRelease,
    FileEntry,
    KnownAnswer,
    Release,
    Requirements,
)

GB = 10**9


def file(path: str, size_bytes: int) -> FileEntry:
    return FileEntry(path=path, size_bytes=size_bytes, sha256=path.encode().hex().ljust(64, "0")[:64], leaves=())


def release(*, gpus: int, device: Device, files: tuple[FileEntry, ...], memory_bytes: int) -> Release:
    return Release(
        kind=BundleKind.RELEASE,
        name="mistral-medium",
        version="26.11.0",
        epoch=1,
        rollback_floor=1,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        files=files,
        licenses=(),
        pair=None,
        engine=EngineRelease(
            kind="vllm",
            version="0.32.0",
            device=device,
            served_model_name="mistral-medium",
            tensor_parallel_size=max(gpus, 1),
            max_model_len=131_072,
            max_num_seqs=16,
            max_num_batched_tokens=2_048,
            kv_cache_dtype="fp8",
            gpu_memory_utilization=0.9 if gpus else None,
            num_speculative_tokens=3,
            draft_max_model_len=65_536,
            known_answer=KnownAnswer(prompt="2+2=", expected="4", max_tokens=4),
            kv_bytes_per_token=184_320 if gpus else None,
        ),
        requirements=Requirements(
            gpus=gpus,
            gpu_memory_bytes=80 * GB if gpus else 0,
            minimum_driver="580.65.06" if gpus else None,
            memory_bytes=memory_bytes,
            installed_bytes=20 * GB,
            operating_systems=("debian-12",),
        ),
    )


CUDA = release(
    gpus=4,
    device=Device.CUDA,
    files=(
        file("weights/target/consolidated-1.safetensors", 70 * GB),
        file("weights/target/consolidated-2.safetensors", 64 * GB),
        file("engine/wheels/torch.whl", 4 * GB),
        file("os/debian-12/pool/nvidia-driver-cuda_580.95.05-1_amd64.deb", GB),
        file("os/debian-12/pool/nvidia-kernel-open-dkms_580.95.05-1_all.deb", 0),
        file("os/debian-12/pool/dkms_3.0.10-8_all.deb", 0),
        file("os/debian-12/pool/linux-headers-6.1.0-41-common_6.1.158-1_all.deb", 0),
        file("os/debian-12/pool/linux-headers-6.1.0-41-amd64_6.1.158-1_amd64.deb", 0),
    ),
    memory_bytes=200 * GB,
)
CUDA_WITHOUT_DKMS = replace(CUDA, files=tuple(f for f in CUDA.files if "/dkms_" not in f.path))
CUDA_WITHOUT_DRIVER = release(gpus=4, device=Device.CUDA, files=(file("w", GB),), memory_bytes=200 * GB)
CPU = release(
    gpus=0, device=Device.CPU, files=(file("w", GB // 10), file("engine/wheels/a.whl", GB)), memory_bytes=8 * GB
)
