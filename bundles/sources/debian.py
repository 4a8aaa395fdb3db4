"""Operating system packages: a signed apt repository that needs no other.

apt resolves and downloads with a configuration of its own: this machine's mirrors and keyrings,
but its own lists, and as "installed" only what every Debian installation has. The repository then
holds whatever else a node could lack, in one version each, so that an installation from it succeeds
on the barest node. Nothing of this machine's package state is read or changed.

```toml
source = { kind = "debian", suite = "bookworm", packages = ["nftables"], driver = false }
driver = { version = "535.261.03-1", kernels = ["6.1.0-50-amd64"], packages = ["nvidia-smi", ...] }
```
Whatever exists in the driver's version is taken in that version: otherwise apt mixes user space and
kernel modules of different ones. The kernels' exact headers come along, as the modules are compiled
on the node.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import unquote

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import SourceContext, text, texts
from bundles.sources.apt_index import (
    PoolPackage,
    Stanza,
    base_packages,
    packages_index,
    pool_name,
    refreshed,
    release_file,
    render,
    stanzas,
)

DAY0_PACKAGES = ("python3-venv",)
"""What a node needs before the appliance's own environment can be made; always in the repository."""

APPLIANCE_PACKAGES = ("chrony", "iproute2", "nftables", "openssl", "python3-apt")
"""What the playbooks need: always in the repository too."""

ENGINE_PACKAGES = ("g++", "libnuma1", "libpython3.11-dev")
"""What the engine needs of the node: it compiles kernels while it serves, and dies where it cannot."""

DRIVER_BUILD_PACKAGES = ("build-essential", "dkms", "mokutil")
CONTENTS = "leeward-os.json"
KEYRING = "leeward-os.gpg"
_TOOLS = {"apt-get": "apt", "dpkg-deb": "dpkg", "gpg": "gpg"}
_DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSet:
    """A GPU driver: its packages, all in one Debian version, and the kernels it is compiled for."""

    version: str
    packages: tuple[str, ...]
    kernels: tuple[str, ...]


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
        self._driver = _driver(table)

    def fetch(self, into: Path) -> None:
        """Make the repository in `into`.

        Raises SourceFailed where a tool is missing, a mirror does not answer, or the packages cannot
        be had in the versions asked for.
        """
        _check_tools()
        archive = _Archive(
            folder=self._context.cache / "debian" / f"{self._suite}-{self._architecture}",
            sources=self._sources(),
            pinned_version=self._driver.version if self._driver else None,
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
        headers = tuple(f"linux-headers-{kernel}" for kernel in self._driver.kernels)
        return (*self._packages, *DRIVER_BUILD_PACKAGES, *headers, *self._driver.packages)

    def _check_driver(self, pool: Sequence[PoolPackage]) -> None:
        versions = {package.name: package.control["Version"] for package in pool}
        if self._driver and self._driver.version not in {versions.get(name) for name in self._driver.packages}:
            raise SourceFailed(
                detail=f"no driver package exists in version {self._driver.version}; the mirror has {versions}",
                remedy="Name a version that the mirror has for the kernel modules' package.",
            )

    def _sources(self) -> str:
        """Return this machine's mirrors of the suite, its updates and its security updates, as deb822."""
        listing = _run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"])
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
        driver = self._driver and {
            "version": self._driver.version,
            "packages": {name: versions[name] for name in sorted(self._driver.packages)},
            "kernels": sorted(self._driver.kernels),
        }
        return {"schema": "leeward-os/1", "suite": self._suite, "packages": list(self._packages), "driver": driver}


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """Debian's archive as apt sees it through a private configuration kept in `folder`."""

    folder: Path
    sources: str
    pinned_version: str | None
    architecture: str
    context: SourceContext

    def closure(self, wanted: Sequence[str]) -> list[Path]:
        """Download `wanted` and everything a bare node lacks for it; returns the package files."""
        self._prepare()
        available = {s["Package"]: s for s in stanzas(self._apt("apt-cache", "dumpavail"))}
        base = {name: available[name]["Version"] for name in sorted(base_packages(available))}
        self._status.write_text("".join(render(_installed(available[name])) for name in base))
        files = self._download(("install", "--no-install-recommends", *wanted))
        seen: set[str] = set()
        todo = files
        while missing := sorted(refreshed((_control(file) for file in todo), base, _at_least) - seen):
            seen.update(missing)
            todo = self._download(("download", *(f"{name}={base[name]}" for name in missing)))
            files = [*files, *todo]
        return sorted(set(files))

    @property
    def _status(self) -> Path:
        return self.folder / "status"

    @property
    def _archives(self) -> Path:
        return self.folder / "archives"

    def _prepare(self) -> None:
        for path in (
            self.folder / "lists" / "partial",
            self._archives / "partial",
            self.folder / "nothing" / "partial",
        ):
            path.mkdir(parents=True, exist_ok=True)
        (self.folder / "leeward.sources").write_text(self.sources)
        self._status.write_text("")
        pin = {"Package": "/./", "Pin": f"version {self.pinned_version}", "Pin-Priority": "1001"}
        (self.folder / "preferences").write_text(render(pin) if self.pinned_version else "")
        self._apt("apt-get", "update", "--error-on=any")

    @cached_property
    def _options(self) -> list[str]:
        values = {
            "Dir::Etc::SourceList": self.folder / "leeward.sources",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": self.folder / "preferences",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::Status": self._status,
            "Dir::State::Extended_States": self.folder / "extended_states",
            "Dir::Cache": self.folder,
            "Dir::Cache::Archives": self._archives,
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",
            "APT::Get::Assume-Yes": "true",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        return [part for key, value in values.items() for part in ("-o", f"{key}={value}")]

    def _apt(self, tool: str, *arguments: str) -> str:
        return _run([tool, "-q", *self._options, *arguments], cwd=self._archives)

    def _download(self, command: tuple[str, ...]) -> list[Path]:
        """Download what an apt-get command would; apt checks every file, kept ones included."""
        nothing_kept = f"Dir::Cache::Archives={self.folder / 'nothing'}"  # else kept files are not listed
        listing = self._apt("apt-get", "-o", nothing_kept, command[0], "--print-uris", *command[1:])
        sizes = {}
        for line in listing.splitlines():
            if line.startswith("'"):
                _, name, size, *_ = line.split()
                sizes[self._archives / name] = int(size)
        fetch = ("install", "--download-only") if command[0] == "install" else command[:1]
        with (
            subprocess.Popen(  # noqa: S603  fixed program, list of arguments
                ["apt-get", "-q", *self._options, *fetch, *command[1:]],  # noqa: S607  found on PATH, as for every Debian tool
                cwd=self._archives,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as process
        ):
            while process.poll() is None:
                self._report(sizes)
                time.sleep(0.2)
            errors = process.stderr.read() if process.stderr else ""
        self._report(sizes)
        if process.returncode != 0 or not all(path.exists() for path in sizes):
            raise SourceFailed(
                detail=f"apt-get {command[0]}: {_tail(errors)}",
                remedy="Check the mirror and the recipe's package names and versions, then build again; it resumes.",
            )
        return list(sizes)

    def _report(self, sizes: Mapping[Path, int]) -> None:
        done = sum(path.stat().st_size for path in sizes if path.exists())
        self.context.progress("Debian packages", done, sum(sizes.values()))


@dataclass(frozen=True, kw_only=False)
class RepositoryKey:
    """The publisher's key for package repositories: Ed25519, made once, kept as a file in `folder`.

    gpg runs in a short-lived home of its own, so that neither a person's keyring nor a long path
    (an agent's socket name is limited to 107 bytes) matters.
    """

    folder: Path

    def sign(self, content: bytes) -> bytes:
        """Return `content` clear-signed. The same content is signed once and then kept."""
        kept = self.folder / "signed" / f"{hashlib.sha256(content).hexdigest()}.InRelease"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            _write_new(kept, self._gpg("--digest-algo", "SHA512", "--clearsign", content=content))
        return kept.read_bytes()

    def public(self) -> bytes:
        """Return the public key as apt's `Signed-By` takes it."""
        return self._gpg("--export-options", "export-minimal", "--export")

    @property
    def _secret(self) -> Path:
        return self.folder / "leeward-os.secret.asc"

    def _gpg(self, *arguments: str, content: bytes = b"") -> bytes:
        with tempfile.TemporaryDirectory(prefix="leeward-gpg-") as home:
            common = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
            try:
                if self._secret.exists():
                    _run_bytes([*common, "--import", str(self._secret)])
                else:
                    owner = "Leeward operating system packages"
                    _run_bytes([*common, "--passphrase", "", "--quick-generate-key", owner, "ed25519", "sign", "never"])
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    _write_new(self._secret, _run_bytes([*common, "--armor", "--export-secret-keys"]))
                return _run_bytes([*common, *arguments], content)
            finally:
                subprocess.run(  # noqa: S603  fixed program
                    ["gpgconf", "--homedir", home, "--kill", "all"],  # noqa: S607  comes with gpg
                    check=False,
                    capture_output=True,
                )


def _driver(table: Mapping[str, object]) -> DriverSet | None:
    driver = table.get("driver", False)
    if driver is False:
        return None
    if not isinstance(driver, dict):
        raise RecipeInvalid(
            detail=f"`driver` is {driver!r}",
            remedy="Write `driver = false`, or a table with `version`, `packages` and `kernels`.",
        )
    named = {"kind": "debian driver", **driver}
    found = DriverSet(
        version=text(named, "version"), packages=texts(named, "packages"), kernels=texts(named, "kernels")
    )
    if not found.packages or not found.kernels:
        raise RecipeInvalid(
            detail="a driver needs at least one package and one kernel",
            remedy="Name the driver's packages, and the nodes' kernels as `uname -r` prints them.",
        )
    return found


def _check_tools() -> None:
    missing = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise SourceFailed(
            detail=f"this build host lacks {', '.join(missing)}",
            remedy=f"On a Debian build host: apt-get install {' '.join(missing)}",
        )


def _installed(stanza: Stanza) -> Stanza:
    kept = ("Package", "Essential", "Priority", "Architecture", "Multi-Arch", "Version", "Provides", "Depends")
    more = ("Pre-Depends", "Breaks", "Conflicts")
    return {"Status": "install ok installed", **{key: stanza[key] for key in (*kept, *more) if key in stanza}}


def _control(file: Path) -> Stanza:
    return next(stanzas(_run(["dpkg-deb", "--field", str(file)])))


def _pool_package(file: Path) -> PoolPackage:
    control = _control(file)
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


@lru_cache(maxsize=4096)
def _at_least(version: str, minimum: str) -> bool:
    command = ["dpkg", "--compare-versions", version, "ge", minimum]
    return subprocess.run(command, check=False).returncode == 0  # noqa: S603  fixed program, list of arguments


def _place(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _write_new(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.replace(path)


def _tail(errors: str) -> str:
    return " ".join(line.strip() for line in errors.strip().splitlines()[-4:]) or "it said nothing"


def _run(command: Sequence[str], *, cwd: Path | None = None) -> str:
    return _run_bytes(command, cwd=cwd).decode(errors="replace")


def _run_bytes(command: Sequence[str], content: bytes = b"", *, cwd: Path | None = None) -> bytes:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(  # noqa: S603  fixed programs, lists of arguments
        command, cwd=cwd, input=content, capture_output=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise SourceFailed(
            detail=f"{command[0]} exited {done.returncode}: {_tail(done.stderr.decode(errors='replace'))}",
            remedy="Check the mirror and the recipe's package names and versions, then build again; it resumes.",
        )
    return done.stdout
