"""Operating system packages: a signed apt repository that needs no other.

apt resolves and downloads with a configuration of its own: this machine's mirrors and keyrings,
but its own lists, and as "installed" only what every Debian installation has. The repository then
holds whatever else a node could lack, in one version each, so that an installation from it succeeds
on the barest node. Nothing of this machine's package state is read or changed.

```toml
source = { kind = "debian", suite = "bookworm", packages = ["nftables"], driver = false }
```
`driver` may be a driver set: `bundles.sources.driver_set` says how it is named. Whatever exists in
the driver's version is taken in that version: otherwise apt mixes user space and kernel modules of
different ones. The kernels' exact headers come along where the modules are compiled on the node.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

from bundles.errors import SourceFailed
from bundles.sources import SourceContext, text, texts
from bundles.sources.apt_archive import AptArchive, control_of
from bundles.sources.apt_index import PoolPackage, packages_index, pool_name, release_file, render
from bundles.sources.commands import require_tools, run
from bundles.sources.driver_set import Modules, read_driver
from bundles.sources.local_repository import LocalRepository, unpack
from bundles.sources.repository_key import RepositoryKey

DAY0_PACKAGES = ("python3-venv",)
"""What a node needs before the appliance's own environment can be made; always in the repository."""

APPLIANCE_PACKAGES = ("auditd", "chrony", "iproute2", "nftables", "openssl", "python3-apt")
"""What the playbooks need: always in the repository too."""

ENGINE_PACKAGES = ("g++", "libnuma1", "libpython3.11-dev")
"""What the engine needs of the node: it compiles kernels while it serves, and dies where it cannot."""

SIGNING_PACKAGES = ("mokutil",)
DRIVER_BUILD_PACKAGES = ("build-essential", "dkms", *SIGNING_PACKAGES)
CONTENTS = "leeward-os.json"
KEYRING = "leeward-os.gpg"
_TOOLS = {"apt-get": "apt", "dpkg-deb": "dpkg", "gpg": "gpg"}
_DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")


class DebianSource:
    """Fetches packages with everything they need and makes a repository of them."""

    def __init__(self, table: Mapping[str, object], context: SourceContext) -> None:
        self._context = context
        self._suite = text(table, "suite", "bookworm")
        self._architecture = text(table, "architecture", "amd64")
        self._components = texts(table, "components", _COMPONENTS)
        self._keyring = text(table, "keyring", _DEBIAN_KEYRING)
        self._packages = tuple(
            sorted({*DAY0_PACKAGES, *APPLIANCE_PACKAGES, *ENGINE_PACKAGES, *texts(table, "packages")})
        )
        self._driver, self._archives = read_driver(table, context.recipe_folder)

    def fetch(self, into: Path) -> None:
        """Make the repository in `into`.

        Raises SourceFailed where a tool is missing, a mirror does not answer, or the packages cannot
        be had in the versions asked for.
        """
        require_tools(_TOOLS)
        cache = self._context.cache / "debian"
        local = [
            unpack(archive, folder=self._archives, into=cache / "local")
            for archive in (self._driver.archives if self._driver else ())
        ]
        archive = AptArchive(
            folder=cache / f"{self._suite}-{self._architecture}",
            sources="\n".join([self._sources(), *map(_local_source, local)]),
            pinned_version=self._driver.pin if self._driver else None,
            architecture=self._architecture,
            context=self._context,
        )
        files = archive.closure(self._wanted())
        pool = [_pool_package(file) for file in files]
        self._check_driver(pool)
        for name in ("dists", "pool"):
            shutil.rmtree(into / name, ignore_errors=True)
        (into / "pool").mkdir(parents=True)
        for file, package in zip(files, pool, strict=True):
            _place(file, into / "pool" / package.filename)
        self._write_indexes(into, pool)

    def _wanted(self) -> tuple[str, ...]:
        if self._driver is None:
            return self._packages
        is_compiled = self._driver.modules is Modules.DKMS
        headers = tuple(f"linux-headers-{kernel}" for kernel in self._driver.kernels) if is_compiled else ()
        tools = DRIVER_BUILD_PACKAGES if is_compiled else SIGNING_PACKAGES
        return (*self._packages, *tools, *headers, *self._driver.all_packages)

    def _check_driver(self, pool: Sequence[PoolPackage]) -> None:
        """See that the driver came in its version: a package of it at least, and from NVIDIA every one."""
        if self._driver is None:
            return
        found = {
            package.name: package.control["Version"] for package in pool if package.name in self._driver.all_packages
        }
        fitting = {name for name, version in found.items() if fnmatchcase(version, self._driver.pin)}
        if not fitting or (self._driver.archives and fitting != set(self._driver.all_packages)):
            raise SourceFailed(
                detail=f"the driver is wanted in version {self._driver.version}; the archives have {found}",
                remedy="Name a version that the archives have for the kernel modules' package.",
            )

    def _sources(self) -> str:
        """Return this machine's mirrors of the suite, its updates and its security updates, as deb822."""
        listing = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"])
        suites = (self._suite, f"{self._suite}-updates", f"{self._suite}-security")
        mirrors = sorted({tuple(line.split(maxsplit=1)) for line in listing.splitlines()})
        chosen = [(release, uri) for release, uri in mirrors if release in suites]
        if self._suite not in {release for release, _ in chosen}:
            have = ", ".join(sorted({mirror[0] for mirror in mirrors})) or "none"
            raise SourceFailed(
                detail=f"this machine's apt sources have no {self._suite!r}; they have {have}",
                remedy=f"Build on a machine whose apt sources name {self._suite}, or add a mirror of it.",
            )
        return "\n".join(
            render(
                {
                    "Types": "deb",
                    "URIs": uri,
                    "Suites": release,
                    "Components": " ".join(self._components),
                    "Architectures": self._architecture,
                    "Signed-By": self._keyring,
                }
            )
            for release, uri in chosen
        )

    def _write_indexes(self, into: Path, pool: Sequence[PoolPackage]) -> None:
        index_path = f"main/binary-{self._architecture}/Packages"
        index = packages_index(pool).encode()
        release = release_file(
            {index_path: index}, architecture=self._architecture, date=max(package.built_at for package in pool)
        )
        dists = into / "dists" / "leeward"
        (dists / index_path).parent.mkdir(parents=True)
        (dists / index_path).write_bytes(index)
        key = RepositoryKey(self._context.cache / "debian" / "keys")
        (dists / "InRelease").write_bytes(key.sign(release.encode()))
        (into / KEYRING).write_bytes(key.public())
        contents = json.dumps(self._contents({package.name: package.control["Version"] for package in pool}), indent=2)
        (into / CONTENTS).write_text(contents + "\n")

    def _contents(self, versions: Mapping[str, str]) -> dict[str, object]:
        """Return what the playbooks read: which packages to ask for, the driver's in their versions."""
        driver = self._driver and self._driver.contents(versions)
        return {
            "schema": "leeward-os/1",
            "family": "debian",
            "suite": self._suite,
            "packages": list(self._packages),
            "driver": driver,
        }


def _local_source(repository: LocalRepository) -> str:
    """Return an unpacked repository as an apt source; `copy` and not `file`, whose packages apt does not fetch."""
    return render(
        {"Types": "deb", "URIs": f"copy:{repository.folder}", "Suites": "./", "Signed-By": str(repository.key)}
    )


def _pool_package(file: Path) -> PoolPackage:
    control = control_of(file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(len(b"!<arch>\n") + 16)  # ar(5): the first member's header; its time is the package's
        built_at = datetime.fromtimestamp(int(stream.read(12)), tz=UTC)
    return PoolPackage(
        control=control,
        filename=unquote(pool_name(control)),
        size_bytes=file.stat().st_size,
        sha256=digest,
        built_at=built_at,
    )


def _place(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
