"""How the engine is started: vLLM's arguments and environment, as values.

Pure. The play `engine_vllm` writes them into the systemd unit; nothing here runs anything. Flags and
variables are those of vLLM 0.32.0, tried together on its CPU build; those for CUDA alone are taken
from its sources. Principles: no way out of the node, no TCP port, no code from the cache of another
user, nothing of a prompt in a log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from appliance.domain.errors import Misfit
from bundles.release import Device, EngineRelease, Release

SOCKET: Final = PurePosixPath("/run/leeward-engine/engine.sock")
CACHE: Final = PurePosixPath("/var/cache/leeward-engine")
SLOTS: Final = PurePosixPath("/var/lib/leeward/slots")

IMAGES_PER_PROMPT: Final = 4
DRAIN_S: Final = 60
"""How long a stopping engine finishes requests; the unit's TimeoutStopSec must be longer."""
CUDA_READY_TIMEOUT_S: Final = 3600
"""vLLM gives up after 600 s by itself; 134 GB from a slow disk and a cold compile take longer."""
CPU_KV_CACHE_GIB: Final = 1
PLUGINS: Final = ("cpu_fp8", "cpu_spec", "parser_cache")
"""General plugins that vLLM may load: Leeward's own, so no resolver that would ask a hub."""
NOWHERE: Final = "none.invalid"
"""An allow-list of one domain that cannot exist (RFC 6761): image addresses answer 400, `data:` works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """One engine, ready to be started: what is served, from where, listening where."""

    engine: EngineRelease
    target: PurePosixPath
    draft: PurePosixPath
    socket: PurePosixPath = SOCKET
    cache: PurePosixPath = CACHE

    @classmethod
    def of(cls, release: Release, slot_path: PurePosixPath) -> EngineSpec:
        """Return the engine of a release that lies at `slot_path`; raises Misfit where it has none."""
        if release.engine is None:
            raise Misfit(
                detail=f"release {release.name} {release.version} holds no engine",
                remedy="Import a bundle that carries a release, not evidence.",
            )
        return cls(
            engine=release.engine, target=slot_path / "weights" / "target", draft=slot_path / "weights" / "draft"
        )

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of the program `vllm`, `serve` first."""
        engine = self.engine
        return (
            "serve", str(self.target),
            "--served-model-name", engine.served_model_name,
            "--uds", str(self.socket),
            "--tokenizer-mode", "mistral",
            "--config-format", "mistral",
            "--load-format", "mistral",
            "--tensor-parallel-size", str(engine.tensor_parallel_size),
            "--max-model-len", str(engine.max_model_len),
            "--max-num-batched-tokens", str(engine.max_num_batched_tokens),
            "--max-num-seqs", str(engine.max_num_seqs),
            "--kv-cache-dtype", engine.kv_cache_dtype,
            *self._speculation(),
            "--enable-auto-tool-choice",
            "--tool-call-parser", "mistral",
            "--reasoning-parser", "mistral",
            "--limit-mm-per-prompt", _json({"image": IMAGES_PER_PROMPT}),
            "--allowed-media-domains", NOWHERE,
            "--enable-prompt-tokens-details",
            "--enable-request-id-headers",
            "--disable-fastapi-docs",
            "--fingerprint-mode", "none",
            "--shutdown-timeout", str(DRAIN_S),
            *self._device_arguments(),
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """The engine's environment variables, in a fixed order."""
        return {
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_PLUGINS": ",".join(PLUGINS),
            "HOME": str(self.cache),
            "XDG_CACHE_HOME": str(self.cache),
            "XDG_CONFIG_HOME": str(self.cache / "config"),
            "HF_HOME": str(self.cache / "huggingface"),
            "VLLM_CACHE_ROOT": str(self.cache / "vllm"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.cache / "inductor"),
            "TRITON_CACHE_DIR": str(self.cache / "triton"),
            **self._device_environment(),
        }

    def _speculation(self) -> tuple[str, ...]:
        engine = self.engine
        if engine.num_speculative_tokens == 0:
            return ()
        config = {
            "method": "eagle",
            "model": str(self.draft),
            "num_speculative_tokens": engine.num_speculative_tokens,
            "max_model_len": engine.draft_max_model_len,
        }
        return ("--speculative-config", _json(config))

    def _device_arguments(self) -> tuple[str, ...]:
        if self.engine.device is Device.CPU:
            return ("--enforce-eager",)
        # Without nvcc the FlashInfer kernels cannot be built; FA3 comes compiled inside the wheel.
        backend = ("--attention-backend", "FLASH_ATTN")
        share = self.engine.gpu_memory_utilization
        return backend if share is None else (*backend, "--gpu-memory-utilization", str(share))

    def _device_environment(self) -> dict[str, str]:
        if self.engine.device is Device.CPU:
            # One thread, free to move: spinning OpenMP threads on shared cores made an answer of the tiny
            # pair take 20 s instead of 1.2 s, and binding needs a view of the machine that a unit may lack.
            return {
                "VLLM_CPU_KVCACHE_SPACE": str(CPU_KV_CACHE_GIB),
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": "1",
            }
        return {
            "VLLM_ENGINE_READY_TIMEOUT_S": str(CUDA_READY_TIMEOUT_S),
            "VLLM_USE_FLASHINFER_SAMPLER": "0",
            "VLLM_ALLREDUCE_USE_FLASHINFER": "0",
            "FLASHINFER_NO_DOWNLOAD": "1",
            "VLLM_USE_DEEP_GEMM": "0",
        }


def engine_variables(release: Release, slot_path: PurePosixPath) -> dict[str, object]:
    """Return the variables of the role `engine_vllm`: a list of arguments and a map of environment.

    Raises Misfit where the release has no engine.
    """
    spec = EngineSpec.of(release, slot_path)
    return {"engine_vllm_arguments": list(spec.arguments), "engine_vllm_environment": spec.environment}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
