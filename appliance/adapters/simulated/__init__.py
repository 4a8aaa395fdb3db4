"""The one thing that may be simulated: GPUs, behind NVML's own interface, and never silently."""

from appliance.adapters.simulated.gpus import preload_mock_nvml

__all__ = ["preload_mock_nvml"]
