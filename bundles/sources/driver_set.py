"""Which GPU driver a release brings: open kernel modules only, in one version, for named kernels.

A set from the distribution's own archive stands in the recipe:

    driver = { version = "535.261.03-1", kernels = ["6.1.0-50-amd64"], packages = ["nvidia-smi", ...] }

A set from NVIDIA's local repository packages is a file of its own, `bundles/recipes/drivers/*.toml`,
because each branch of the driver is one for several operating systems:

    driver = { set = "drivers/r580.toml", system = "debian-12" }

Those packages are not fetched: whoever builds puts them into a folder and says what they must be,
by SHA-256 and by the fingerprint of the key that signed what is in them (docs/drivers.md). What is
missing is said all at once, before anything is downloaded.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, cast

from bundles import codec
from bundles.digest import is_sha256_hex
from bundles.errors import RecipeInvalid

SCHEMA: Final = "leeward-driver/1"
_FINGERPRINT: Final = re.compile(r"[0-9A-F]{40}")


class Modules(StrEnum):
    """How the kernel modules reach the node: compiled there by DKMS, or compiled and signed by the vendor."""

    DKMS = "dkms"
    PREBUILT = "prebuilt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A local repository package of NVIDIA; `key` is the 40-digit fingerprint of what signed its content."""

    file: str
    sha256: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSet:
    """A driver for one operating system.

    `version` is the packages' own (`535.261.03-1`), or the driver's alone (`580.95.05`), which any
    packaging revision fits. `kernels` are those that it is known to compile for or was compiled for,
    `kernels_refused` those that it is known not to, with the reason. `fabric_manager` is installed
    on nodes with NVSwitches only, `dcgm` wherever the set has it.
    """

    version: str
    packages: tuple[str, ...]
    kernels: tuple[str, ...]
    modules: Modules = Modules.DKMS
    fabric_manager: tuple[str, ...] = ()
    dcgm: tuple[str, ...] = ()
    kernels_refused: Mapping[str, str] = field(default_factory=dict)
    archives: tuple[Archive, ...] = ()

    def __post_init__(self) -> None:
        if not self.version or not self.packages or not self.kernels:
            raise ValueError("a driver needs a version, at least one package and one kernel")
        if both := set(self.kernels) & set(self.kernels_refused):
            raise ValueError(f"kernels and kernels_refused both name {', '.join(sorted(both))}")
        if not all(isinstance(reason, str) and reason for reason in self.kernels_refused.values()):
            raise ValueError("kernels_refused gives a reason, as text, for each kernel")

    @property
    def pin(self) -> str:
        """The version as apt pins it; a driver's version alone fits any packaging revision."""
        return self.version if "-" in self.version else f"{self.version}-*"

    @property
    def all_packages(self) -> tuple[str, ...]:
        """Every package that is asked for by name."""
        return (*self.packages, *self.fabric_manager, *self.dcgm)

    def contents(self, versions: Mapping[str, str]) -> dict[str, object]:
        """Return what the playbooks read of it in `leeward-os.json`; `versions` are the repository's."""
        return {
            "version": self.version,
            "modules": str(self.modules),
            "packages": {name: versions[name] for name in sorted(self.packages)},
            "fabric_manager": {name: versions[name] for name in sorted(self.fabric_manager)},
            "dcgm": {name: versions[name] for name in sorted(self.dcgm)},
            "kernels": sorted(self.kernels),
            "kernels_refused": dict(sorted(self.kernels_refused.items())),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A driver set file; `folder` is where the archives lie, from the file's own folder."""

    schema: str
    version: str
    folder: str
    systems: Mapping[str, object]


def read_driver(table: Mapping[str, object], recipe_folder: Path) -> tuple[DriverSet | None, Path]:
    """Return the set that a source's `driver` names, `None` for `false`, and the folder of its archives.

    Raises RecipeInvalid, which names everything that is missing.
    """
    driver = table.get("driver", False)
    if driver is False:
        return None, recipe_folder
    if not isinstance(driver, dict):
        raise _invalid(
            f"`driver` is {driver!r}", "Write `driver = false`, or a table with `version`, `packages` and `kernels`."
        )
    if "set" not in driver:
        return _parsed(cast("dict[str, object]", driver), where="the recipe's `driver`"), recipe_folder
    if set(driver) != {"set", "system"} or not all(isinstance(value, str) for value in driver.values()):
        raise _invalid(
            f"`driver` is {driver!r}", 'Write `driver = { set = "drivers/r580.toml", system = "debian-12" }`.'
        )
    return _from_file(recipe_folder / driver["set"], driver["system"])


def _from_file(path: Path, system: str) -> tuple[DriverSet, Path]:
    try:
        read = codec.from_plain(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except (OSError, ValueError) as error:
        raise _invalid(f"{path}: {error}", "Correct `set` in the recipe, or that file.") from error
    if read.schema != SCHEMA:
        raise _invalid(f"{path}: its schema is {read.schema!r}, not {SCHEMA!r}", "Use a file of this version.")
    if system not in read.systems:
        raise _invalid(f"{path} has {', '.join(read.systems)}, and not {system}", "Correct `system` in the recipe.")
    table = read.systems[system]
    if not isinstance(table, dict):
        raise _invalid(f"{path}: systems.{system} is {table!r}", "Make it a table.")
    found = _parsed({"version": read.version, **table}, where=f"{path}, {system}")
    folder = path.parent / read.folder
    if missing := [problem for archive in found.archives for problem in _problems(archive, folder)]:
        raise _invalid(
            f"{path.name}, {system}: {'; '.join(missing)}",
            f"Get the file from NVIDIA's driver downloads, put it into {folder.resolve()}, and write its SHA-256 and "
            "its key's fingerprint, both confirmed another way, into the driver set (docs/drivers.md).",
        )
    return found, folder


def _problems(archive: Archive, folder: Path) -> list[str]:
    problems = []
    if not is_sha256_hex(archive.sha256):
        problems.append(f"the SHA-256 of {archive.file} is not filled in (it is {archive.sha256!r})")
    if not _FINGERPRINT.fullmatch(archive.key):
        problems.append(f"the fingerprint of the key in {archive.file} is not filled in (it is {archive.key!r})")
    if not (folder / archive.file).is_file():
        problems.append(f"{archive.file} does not lie in {folder.resolve()}")
    return problems


def _parsed(plain: Mapping[str, object], *, where: str) -> DriverSet:
    try:
        return codec.from_plain(plain, DriverSet)
    except ValueError as error:
        raise _invalid(
            f"{where}: {error}", "Name the driver's packages, and the nodes' kernels as `uname -r` prints them."
        ) from error


def _invalid(detail: str, remedy: str) -> RecipeInvalid:
    return RecipeInvalid(detail=detail, remedy=remedy)
