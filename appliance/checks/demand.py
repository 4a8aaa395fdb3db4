"""What a release asks of a node, with the answer for "no release named" in one place.

Everything is read from the release manifest, which is signed: what the package archive of the
medium holds is told by the names of its files there, not by looking into the archive.
"""

from __future__ import annotations

import re
from typing import Final

from appliance.domain.node import NodeFacts
from bundles.release import DRAFT_FOLDER, TARGET_FOLDER, Device, Release

ENVIRONMENT_BYTES_PER_WHEEL_BYTE: Final = 4
"""Unpacked environment ÷ its wheels. Measured 3.5 for the CPU engine (2.47 GB); rounded up."""

_PACKAGES: Final = "os/"
_PACKAGE: Final = re.compile(r"(?P<name>.+?)(_[^_]*_[^_]*\.deb|-[^-]+-[^-]+\.rpm)")
"""`name_version_architecture.deb`, `name-version-release.architecture.rpm`."""
_HEADERS: Final = re.compile(r"linux-headers-(?P<deb>\d[^_]*)_.*\.deb|kernel-devel-(?P<rpm>\d.*)\.rpm")
_DKMS_DRIVER: Final = re.compile(r"nvidia-(open-)?(kernel-)?(open-)?dkms.*|nvidia-dkms-.*|kmod-nvidia-.*dkms")
_BUILT_DRIVER: Final = re.compile(r"linux-modules-nvidia-.*|kmod-nvidia-.*")
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


def package_names(release: Release | None) -> frozenset[str]:
    """Return the names of the Debian packages and RPMs that the release carries."""
    return frozenset(match["name"] for name in _package_files(release) if (match := _PACKAGE.fullmatch(name)))


def brings_package(release: Release | None, name: str) -> bool:
    """Whether the release carries the package of that very name."""
    return name in package_names(release)


def brings_fabric_manager(release: Release | None) -> bool:
    """Whether the release carries a fabric manager, so that provisioning installs it with the driver."""
    return any(name.startswith("nvidia-fabricmanager") for name in package_names(release))


def builds_driver(release: Release | None, facts: NodeFacts) -> bool:
    """Whether provisioning builds the driver's modules on this node.

    It does where the release brings DKMS sources and no driver is loaded, unless it brings modules
    that were built for the running kernel.
    """
    return brings_driver_sources(release) and not brings_modules(release, facts.kernel) and facts.driver is None


def brings_driver_sources(release: Release | None) -> bool:
    """Whether the release carries a driver whose modules DKMS builds on the node."""
    return any(_DKMS_DRIVER.fullmatch(name) for name in package_names(release))


def brings_modules(release: Release | None, kernel: str) -> bool:
    """Whether the release carries the driver's modules as the vendor built them for that very kernel."""
    names = package_names(release)
    return any(_BUILT_DRIVER.fullmatch(name) and name.endswith(f"-{kernel}") for name in names)


def kernels_with_headers(release: Release | None) -> tuple[str, ...]:
    """Return the kernels whose own headers the release carries; what several kernels share is none of them."""
    found = (match for name in _package_files(release) if (match := _HEADERS.fullmatch(name)))
    kernels = (match["deb"] or match["rpm"] for match in found)
    return tuple(sorted(kernel for kernel in kernels if not kernel.endswith("-common")))


def brings_headers(release: Release | None, kernel: str) -> bool:
    """Whether the release carries the headers of that very kernel."""
    return kernel in kernels_with_headers(release)


def weights_bytes(release: Release) -> int:
    """Return the size of target and draft head."""
    return sum(file.size_bytes for file in release.files if file.path.startswith((TARGET_FOLDER, DRAFT_FOLDER)))


def new_bytes(release: Release, facts: NodeFacts) -> int:
    """Return the size of what the store does not hold yet, equal content once."""
    return sum({f.sha256: f.size_bytes for f in release.files if f.sha256 not in facts.stored_sha256}.values())


def wheels_bytes(release: Release) -> int:
    """Return the size of both wheelhouses."""
    return sum(file.size_bytes for file in release.files if file.path.endswith(".whl"))


def _package_files(release: Release | None) -> list[str]:
    files = release.files if release else ()
    return [file.path.rsplit("/", 1)[-1] for file in files if file.path.startswith(_PACKAGES)]
