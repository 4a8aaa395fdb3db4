"""What a release asks of a node, with the answer for "no release named" in one place."""

from __future__ import annotations

from typing import Final

from bundles.release import Device, Release

ENVIRONMENT_BYTES_PER_WHEEL_BYTE: Final = 4
"""Unpacked environment ÷ its wheels. Measured 3.5 for the CPU engine (2.47 GB); rounded up."""

_DRIVER_PACKAGES: Final = ("nvidia-driver", "nvidia-open", "nvidia-kernel", "nvidia-dkms")


def gpus(release: Release | None) -> int:
    """Return the number of GPUs that the release needs; zero where none is named."""
    return release.requirements.gpus if release and release.requirements else 0


def nothing(release: Release | None) -> str:
    """Say why no GPU is asked for."""
    return "nothing: no release is named" if release is None else "nothing: the release needs no GPU"


def gpu_memory_bytes(release: Release | None) -> int:
    """Return what each GPU must have."""
    return release.requirements.gpu_memory_bytes if release and release.requirements else 0


def minimum_driver(release: Release | None) -> str | None:
    """Return the oldest driver that the engine's CUDA accepts."""
    return release.requirements.minimum_driver if release and release.requirements else None


def computes_on(release: Release | None) -> Device | None:
    """Return what the engine's build computes on."""
    return release.engine.device if release and release.engine else None


def brings_driver(release: Release | None) -> bool:
    """Whether the release's package archive holds a GPU driver, so that provisioning installs it."""
    return release is not None and any(
        file.path.startswith("os/") and file.path.rsplit("/", 1)[-1].startswith(_DRIVER_PACKAGES)
        for file in release.files
    )


def wheels_bytes(release: Release) -> int:
    """Return the size of both wheelhouses."""
    return sum(file.size_bytes for file in release.files if file.path.endswith(".whl"))
