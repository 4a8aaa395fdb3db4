"""The two recipes as releases, and nodes as NVML showed them."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.domain.node import Driver, Gpu, NodeFacts
from bundles.codec import from_plain
from bundles.release import BundleKind, EngineRelease, FileEntry, Release, Requirements

RECIPES = Path(__file__).parents[3] / "bundles" / "recipes"
TARGET_BYTES = 133_605_834_656  # the real weights, from their index
DRAFT_BYTES = 4_000_000_000  # the seed article's figure; 3.07 G parameters are at least 3.1 GB
AT = datetime(2026, 11, 24, tzinfo=UTC)

H100 = ("NVIDIA H100 80GB HBM3", 81_559 * 2**20, (9, 0))
H200 = ("NVIDIA H200", 143_771 * 2**20, (9, 0))
A100 = ("NVIDIA A100-SXM4-80GB", 81_920 * 2**20, (8, 0))


def recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))


def release(name: str, **engine: object) -> Release:
    table = recipe(name)
    return Release(
        kind=BundleKind.RELEASE,
        name=table["name"],
        version=table["version"],
        epoch=table["epoch"],
        rollback_floor=table["rollback_floor"],
        created_at=AT,
        files=(
            file("weights/target/consolidated-00001-of-00001.safetensors", TARGET_BYTES),
            file("weights/target/tekken.json", 20_000_000),
            file("weights/draft/consolidated.safetensors", DRAFT_BYTES),
            file("engine/wheels/torch.whl", 527_000_000),
        ),
        licenses=(),
        pair=None,
        engine=from_plain({"gpu_memory_utilization": None} | table["engine"] | engine, EngineRelease),
        requirements=from_plain({"minimum_driver": None} | table["requirements"], Requirements),
    )


def file(path: str, size_bytes: int) -> FileEntry:
    return FileEntry(path=path, size_bytes=size_bytes, sha256="0" * 64, leaves=())


def node(
    model: tuple[str, int, tuple[int, int]] = H100, *, gpus: int = 4, driver: str = "580.95.05", memory_gb: int = 1000
) -> NodeFacts:
    name, memory, capability = model
    return NodeFacts(
        observed_at=AT, hostname="n1", os_id="debian", os_version="12", os_pretty_name="Debian 12", kernel="6.1",
        architecture="x86_64", cpu_count=96, cpu_flags=frozenset(), memory_total_bytes=memory_gb * 10**9,
        memory_available_bytes=memory_gb * 10**9, filesystems=(), default_routes=(), secure_boot=None,
        fips_enabled=False, systemd_running=True, python_version="3.11.2", clock_synchronized=True,
        driver=Driver(version=driver, cuda_version=(13, 0)) if gpus else None, driver_error=None,
        gpus=tuple(
            Gpu(
                index=i, name=name, uuid=f"GPU-{i}", serial=None, memory_total_bytes=memory, memory_used_bytes=0,
                compute_capability=capability, temperature_c=30, power_w=80.0, power_limit_w=700.0,
                utilization_percent=0, ecc_enabled=True, ecc_uncorrected=0, ecc_corrected=0, mig_enabled=False,
                persistence_enabled=True, row_remap_pending=False, row_remap_failed=False, nvlinks_active=18,
                nvlinks_total=18,
            )
            for i in range(gpus)
        ),
        listening_tcp_ports=frozenset(), simulated=(),
    )  # fmt: skip
