"""vLLM as the engine, called over its Unix socket and never imported."""

from appliance.adapters.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
