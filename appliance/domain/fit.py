"""Whether a release fits on a node, with the arithmetic shown.

The KV cache gets what weights and working memory leave of each GPU's memory:

    room = total * gpu_memory_utilization - weights - 6 GiB for each GPU
    tokens = room / kv_bytes_per_token

The 6 GiB (CUDA context, graphs, activations) are an assumption, not a measurement: the engine's own
line "GPU KV cache size" has the last word. For Mistral-Medium-3.5-128B with its EAGLE head,
`kv_bytes_per_token` is (88 + 2) layers * 2 * 8 heads * 128 * 2 bytes = 368,640 at BF16 and half of
that at FP8 (model's `params.json`).
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.domain.engine import SLOTS, EngineSpec
from appliance.domain.errors import GpuMissing, Misfit
from appliance.domain.node import Gpu, NodeFacts
from bundles.release import DRAFT_FOLDER, TARGET_FOLDER, Device, EngineRelease, Release, Requirements

WORKING_BYTES_PER_GPU = 6 * 2**30
"""Assumed: CUDA context, graphs, activations, vision tower at work."""
DEFAULT_UTILIZATION = 0.92
"""vLLM 0.32.0's own `gpu_memory_utilization`."""
FP8_CAPABILITY = (8, 9)
"""The first compute capability with FP8 tensor cores (NVIDIA CUDA C++ Programming Guide)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvBudget:
    """The arithmetic for the KV cache over all GPUs that the engine uses."""

    gpus: int
    usable_bytes: int
    weights_bytes: int
    working_bytes: int
    bytes_per_token: int
    tokens_needed: int

    @property
    def room_bytes(self) -> int:
        """What is left for the KV cache; negative where not even the weights fit."""
        return self.usable_bytes - self.weights_bytes - self.working_bytes

    @property
    def tokens(self) -> int:
        """How many tokens the room holds."""
        return max(0, self.room_bytes) // self.bytes_per_token

    @property
    def fits(self) -> bool:
        """Whether one request of the greatest length has room."""
        return self.tokens >= self.tokens_needed

    @property
    def sequences(self) -> float:
        """How many requests of the greatest length have room at once."""
        return self.tokens / self.tokens_needed

    def __str__(self) -> str:
        return (
            f"{self.gpus} GPUs give {_gb(self.usable_bytes)}; weights take {_gb(self.weights_bytes)}, "
            f"working memory {_gb(self.working_bytes)} (assumed); {_gb(self.room_bytes)} remain, "
            f"which is {self.tokens:,} tokens of {self.bytes_per_token:,} bytes; "
            f"one request of {self.tokens_needed:,} tokens needs {_gb(self.tokens_needed * self.bytes_per_token)}"
        )


def fit(release: Release, facts: NodeFacts) -> EngineSpec:
    """Return the engine to start on this node.

    Raises GpuMissing where there are too few GPUs, Misfit where memory, driver or architecture do not
    suffice, each with the figures.
    """
    spec = EngineSpec.of(release, SLOTS / release.slot)
    needs = release.requirements
    if needs is None:
        raise Misfit(
            detail=f"release {release.name} {release.version} states no requirements",
            remedy="Ask the publisher for a complete bundle.",
        )
    _require_memory(needs, facts)
    if spec.engine.device is Device.CUDA:
        _require_gpus(needs, spec.engine, facts)
        _require_kv(release, spec.engine, facts.gpus)
    return spec


def kv_budget(release: Release, engine: EngineRelease, gpus: tuple[Gpu, ...]) -> KvBudget | None:
    """Return the KV arithmetic on the first `tensor_parallel_size` GPUs.

    `None` where the release does not state `kv_bytes_per_token`. The smallest GPU counts for all:
    vLLM splits weights and cache evenly.
    """
    if engine.kv_bytes_per_token is None:
        return None
    used = gpus[: engine.tensor_parallel_size]
    smallest = min((gpu.memory_total_bytes for gpu in used), default=0)
    share = DEFAULT_UTILIZATION if engine.gpu_memory_utilization is None else engine.gpu_memory_utilization
    return KvBudget(
        gpus=len(used),
        usable_bytes=int(smallest * share) * len(used),
        weights_bytes=sum(f.size_bytes for f in release.files if _is_weight(f.path)),
        working_bytes=WORKING_BYTES_PER_GPU * len(used),
        bytes_per_token=engine.kv_bytes_per_token,
        tokens_needed=engine.max_model_len,
    )


def _is_weight(path: str) -> bool:
    return path.startswith((TARGET_FOLDER, DRAFT_FOLDER)) and path.endswith(".safetensors")


def _require_memory(needs: Requirements, facts: NodeFacts) -> None:
    if facts.memory_total_bytes < needs.memory_bytes:
        raise Misfit(
            detail=f"the release needs {_gb(needs.memory_bytes)} of main memory; "
            f"this node has {_gb(facts.memory_total_bytes)}",
            remedy="Add memory to the node, or import a release for a smaller node.",
        )


def _require_gpus(needs: Requirements, engine: EngineRelease, facts: NodeFacts) -> None:
    wanted = max(needs.gpus, engine.tensor_parallel_size)
    if facts.driver is None or len(facts.gpus) < wanted:
        raise GpuMissing(
            detail=f"the release needs {wanted} GPUs; the driver shows {len(facts.gpus)}"
            + (f" ({facts.driver_error})" if facts.driver_error else ""),
            remedy="Check that all GPUs are seated and powered and that the driver is loaded, then run preflight.",
        )
    if needs.minimum_driver is not None and _version(facts.driver.version) < _version(needs.minimum_driver):
        raise Misfit(
            detail=f"the engine needs driver {needs.minimum_driver} or newer; this node runs {facts.driver.version}",
            remedy="Install the driver set of the release and restart the node.",
        )
    for gpu in facts.gpus[:wanted]:
        if gpu.memory_total_bytes < needs.gpu_memory_bytes:
            raise Misfit(
                detail=f"GPU {gpu.index} ({gpu.name}) has {_gb(gpu.memory_total_bytes)}; "
                f"the release needs {_gb(needs.gpu_memory_bytes)} on each",
                remedy="Use a node with larger GPUs, or import a release for a smaller node.",
            )
        if gpu.compute_capability < FP8_CAPABILITY:
            raise Misfit(
                detail=f"GPU {gpu.index} ({gpu.name}) has compute capability "
                f"{'.'.join(map(str, gpu.compute_capability))}; FP8 weights need 8.9 or higher",
                remedy="Use a node with Hopper or newer GPUs.",
            )


def _require_kv(release: Release, engine: EngineRelease, gpus: tuple[Gpu, ...]) -> None:
    budget = kv_budget(release, engine, gpus)
    if budget is not None and not budget.fits:
        raise Misfit(
            detail=str(budget),
            remedy="Import a release with a smaller max_model_len or an FP8 KV cache, or use larger GPUs.",
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB"
