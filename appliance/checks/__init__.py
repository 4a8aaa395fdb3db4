"""Preflight checks: questions to a node before a release is let in.

Each module is one question and one pure `evaluate(facts, release)`. `CHECKS` is their order on
screens and in journals.
"""

from __future__ import annotations

from typing import Final

from appliance.checks import (
    architecture,
    clock,
    clock_source,
    cpu_flags,
    default_route,
    disk_space,
    executables,
    fips,
    gateway_port,
    gpu_compute,
    gpu_count,
    gpu_driver,
    gpu_ecc,
    gpu_memory,
    gpu_memory_use,
    gpu_mig,
    gpu_model,
    gpu_nvlink,
    gpu_pcie,
    gpu_persistence,
    gpu_recovery,
    gpu_row_remap,
    kernel,
    memory,
    nouveau,
    operating_system,
    python,
    secure_boot,
    shared_memory,
    simulation,
    systemd,
)
from appliance.checks.check import Check, Group

CHECKS: Final = (
    Check(id=simulation.ID, title="Simulated hardware", group=Group.SYSTEM, evaluate=simulation.evaluate),
    Check(id=operating_system.ID, title="Operating system", group=Group.SYSTEM, evaluate=operating_system.evaluate),
    Check(id=architecture.ID, title="Processor architecture", group=Group.SYSTEM, evaluate=architecture.evaluate),
    Check(id=kernel.ID, title="Kernel", group=Group.SYSTEM, evaluate=kernel.evaluate),
    Check(id=systemd.ID, title="systemd", group=Group.SYSTEM, evaluate=systemd.evaluate),
    Check(id=python.ID, title="Python", group=Group.SYSTEM, evaluate=python.evaluate),
    Check(id=clock.ID, title="Clock", group=Group.SYSTEM, evaluate=clock.evaluate),
    Check(id=clock_source.ID, title="Time source", group=Group.SYSTEM, evaluate=clock_source.evaluate),
    Check(id=cpu_flags.ID, title="Vector instructions", group=Group.RESOURCES, evaluate=cpu_flags.evaluate),
    Check(id=memory.ID, title="Memory", group=Group.RESOURCES, evaluate=memory.evaluate),
    Check(id=disk_space.ID, title="Disk space", group=Group.RESOURCES, evaluate=disk_space.evaluate),
    Check(id=shared_memory.ID, title="Shared memory", group=Group.RESOURCES, evaluate=shared_memory.evaluate),
    Check(id=executables.ID, title="Programs may run", group=Group.RESOURCES, evaluate=executables.evaluate),
    Check(id=gpu_driver.ID, title="GPU driver", group=Group.GPUS, evaluate=gpu_driver.evaluate),
    Check(id=nouveau.ID, title="Driver nouveau", group=Group.GPUS, evaluate=nouveau.evaluate),
    Check(id=gpu_count.ID, title="Number of GPUs", group=Group.GPUS, evaluate=gpu_count.evaluate),
    Check(id=gpu_model.ID, title="Equal GPUs", group=Group.GPUS, evaluate=gpu_model.evaluate),
    Check(id=gpu_memory.ID, title="GPU memory", group=Group.GPUS, evaluate=gpu_memory.evaluate),
    Check(id=gpu_memory_use.ID, title="GPU memory in use", group=Group.GPUS, evaluate=gpu_memory_use.evaluate),
    Check(id=gpu_compute.ID, title="FP8 on the GPUs", group=Group.GPUS, evaluate=gpu_compute.evaluate),
    Check(id=gpu_ecc.ID, title="ECC", group=Group.GPUS, evaluate=gpu_ecc.evaluate),
    Check(id=gpu_mig.ID, title="MIG", group=Group.GPUS, evaluate=gpu_mig.evaluate),
    Check(id=gpu_row_remap.ID, title="Row remapping", group=Group.GPUS, evaluate=gpu_row_remap.evaluate),
    Check(id=gpu_nvlink.ID, title="NVLink", group=Group.GPUS, evaluate=gpu_nvlink.evaluate),
    Check(id=gpu_pcie.ID, title="PCIe lanes", group=Group.GPUS, evaluate=gpu_pcie.evaluate),
    Check(id=gpu_persistence.ID, title="GPU persistence", group=Group.GPUS, evaluate=gpu_persistence.evaluate),
    Check(id=gpu_recovery.ID, title="GPU recovery", group=Group.GPUS, evaluate=gpu_recovery.evaluate),
    Check(id=secure_boot.ID, title="Secure Boot", group=Group.SECURITY, evaluate=secure_boot.evaluate),
    Check(id=fips.ID, title="FIPS mode", group=Group.SECURITY, evaluate=fips.evaluate),
    Check(id=gateway_port.ID, title="Gateway port", group=Group.NETWORK, evaluate=gateway_port.evaluate),
    Check(id=default_route.ID, title="Default route", group=Group.NETWORK, evaluate=default_route.evaluate),
)

__all__ = ["CHECKS", "Check", "Group"]
