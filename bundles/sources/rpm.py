"""Packages for RHEL and its like: a signed dnf repository that needs no other.

```toml
source = { kind = "rpm", driver = { set = "drivers/r580.toml", system = "rhel-9" },
           folder = "../../nvidia/rhel-9", keys = ["567E...A2A9", ...] }
```
The driver comes from NVIDIA's local repository package. What it needs beyond that (dkms, the exact
kernel-devel, a compiler) may not be fetched without a subscription: whoever builds puts those rpms
into `folder` and names the fingerprints of the keys that signed them; a key file of each lies there
too. Every rpm must be signed by a key that was named; the repository's index is signed by the
publisher's key, so that on the node dnf checks both (`gpgcheck`, `repo_gpgcheck`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import SourceContext, text, texts
from bundles.sources.commands import require_tools, run, tail
from bundles.sources.driver_set import DriverSet, Modules, read_driver
from bundles.sources.local_repository import pinned_key, unpack
from bundles.sources.repository_key import RepositoryKey

CONTENTS: Final = "leeward-os.json"
KEYRING: Final = "leeward-os.asc"
PACKAGE_KEYS: Final = "leeward-os-packages.asc"
_TOOLS: Final = {
    "cpio": "cpio",
    "createrepo_c": "createrepo-c",
    "gpg": "gpg",
    "rpm": "rpm",
    "rpm2cpio": "rpm2cpio",
    "rpmkeys": "rpm",
}
_REMEDY: Final = "Do not build with it: get the package again, from where its signing key is known."
_QUERY: Final = "%{NAME}\\t%{EVR}\\t%{BUILDTIME}\\n"


class RpmSource:
    """Checks the rpms of a driver set and of a folder, and makes one repository of them."""

    def __init__(self, table: Mapping[str, object], context: SourceContext) -> None:
        self._context = context
        driver, self._archives = read_driver(table, context.recipe_folder)
        if driver is None:
            raise RecipeInvalid(
                detail="source 'rpm' has no driver", remedy="Name one, or leave the source out: it brings nothing else."
            )
        self._driver: DriverSet = driver
        self._folder = context.recipe_folder / text(table, "folder") if "folder" in table else None
        self._keys = texts(table, "keys")
        if (self._folder is None) != (not self._keys):
            raise RecipeInvalid(
                detail="source 'rpm' has one of `folder` and `keys` without the other",
                remedy="Name the folder of rpms together with the fingerprints of the keys that signed them.",
            )

    def fetch(self, into: Path) -> None:
        """Make the repository in `into`.

        Raises SourceFailed where a tool is missing, a package is unsigned or signed by another key,
        or the driver's packages are not all there.
        """
        require_tools(_TOOLS)
        cache = self._context.cache / "rpm"
        local = [unpack(archive, folder=self._archives, into=cache / "local") for archive in self._driver.archives]
        keys = [repository.key.read_bytes() for repository in local]
        rpms = [path for repository in local for path in repository.folder.rglob("*.rpm")]
        if self._folder is not None:
            keys += [pinned_key(self._folder, key, named=str(self._folder)) for key in self._keys]
            rpms += self._folder.rglob("*.rpm")
        rpms = sorted(rpms, key=lambda path: path.name)
        armored = b"".join(keys)
        self._check_signatures(rpms, armored)
        versions, built_at_s = _versions(rpms)
        self._check_driver(versions)
        for name in ("Packages", "repodata"):
            shutil.rmtree(into / name, ignore_errors=True)
        (into / "Packages").mkdir(parents=True)
        for count, rpm in enumerate(rpms, start=1):
            _place(rpm, into / "Packages" / rpm.name)
            self._context.progress(rpm.name, count, len(rpms))
        (into / PACKAGE_KEYS).write_bytes(armored)
        self._write_index(into, versions, built_at_s=built_at_s)

    def _check_signatures(self, rpms: Sequence[Path], keys: bytes) -> None:
        """Let rpm check every digest and signature against the named keys alone."""
        if not rpms:
            raise SourceFailed(detail="there is no rpm in the archives", remedy="Look what the archives hold.")
        with tempfile.TemporaryDirectory(prefix="leeward-rpm-") as scratch:
            key_file = Path(scratch, "keys.asc")
            key_file.write_bytes(keys)
            database = ["--dbpath", str(Path(scratch, "db"))]
            run(["rpmkeys", *database, "--import", str(key_file)], remedy=_REMEDY)
            checked = subprocess.run(  # noqa: S603  a fixed program, a list of arguments
                ["rpmkeys", *database, "--define", "_pkgverify_level all", "--checksig", *map(str, rpms)],  # noqa: S607  found on PATH, as every tool
                check=False,
                capture_output=True,
                text=True,
            )
        refused = [line.strip() for line in checked.stdout.splitlines() if not line.endswith("digests signatures OK")]
        if refused or checked.returncode != 0:
            said = "; ".join(refused) or tail(checked.stderr)
            raise SourceFailed(detail=f"not signed by a named key, or not what was signed: {said}", remedy=_REMEDY)

    def _check_driver(self, versions: Mapping[str, str]) -> None:
        """See that every driver package is there, in the driver's version."""
        wanted = {name: versions.get(name, "missing") for name in self._driver.all_packages}
        wrong = {name: found for name, found in wanted.items() if _upstream(found) != self._driver.version}
        if self._driver.modules is Modules.DKMS:
            needed = ["dkms", *(f"kernel-devel-{kernel}" for kernel in self._driver.kernels)]
            have = {*versions, *(f"{name}-{_kernel(evr)}" for name, evr in versions.items())}
            wrong |= {name: "missing" for name in needed if name not in have}
        if wrong:
            listed = ", ".join(f"{name}: {found}" for name, found in sorted(wrong.items()))
            raise SourceFailed(
                detail=f"the driver is wanted in version {self._driver.version}; found {listed}",
                remedy="Put what is missing into `folder`, or correct the driver set.",
            )

    def _write_index(self, into: Path, versions: Mapping[str, str], *, built_at_s: int) -> None:
        for package in into.rglob("*.rpm"):  # the index tells their times, and must not tell ours
            os.utime(package, (built_at_s, built_at_s))
        run([
            "createrepo_c", "--quiet", "--no-database", "--simple-md-filenames", "--revision", str(built_at_s),
            "--set-timestamp-to-revision", str(into),
        ])  # fmt: skip
        key = RepositoryKey(self._context.cache / "debian" / "keys")
        index = into / "repodata" / "repomd.xml"
        (into / "repodata" / "repomd.xml.asc").write_bytes(key.detached(index.read_bytes()))
        (into / KEYRING).write_bytes(key.public(armored=True))
        contents = {
            "schema": "leeward-os/1",
            "family": "redhat",
            "packages": [],
            "driver": self._driver.contents(versions),
        }
        (into / CONTENTS).write_text(json.dumps(contents, indent=2) + "\n")


def _versions(rpms: Sequence[Path]) -> tuple[dict[str, str], int]:
    """Return epoch, version and release by package name, and when the newest was built (Unix seconds).

    Raises SourceFailed where a name stands there in two versions.
    """
    lines = run(["rpm", "--query", "--nosignature", "--queryformat", _QUERY, "--package", *map(str, rpms)]).splitlines()
    versions: dict[str, str] = {}
    built_at_s = 0
    for name, evr, built in (line.split("\t") for line in lines):
        built_at_s = max(built_at_s, int(built))
        if versions.setdefault(name, evr) != evr:
            raise SourceFailed(
                detail=f"{name} is there in the versions {versions[name]} and {evr}",
                remedy="Keep one: a release holds each package in one version.",
            )
    return versions, built_at_s


def _upstream(evr: str) -> str:
    return evr.rpartition(":")[2].partition("-")[0]


def _kernel(evr: str) -> str:
    return f"{evr.rpartition(':')[2]}.x86_64"


def _place(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
