"""NVML: what the GPU driver says about itself and its GPUs."""

from appliance.adapters.nvml.probe import GpuReading, NvmlProbe

__all__ = ["GpuReading", "NvmlProbe"]
