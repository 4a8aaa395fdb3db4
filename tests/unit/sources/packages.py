"""Small real packages, and what NVIDIA's local repository packages look like, made by hand."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from bundles.sources.repository_key import RepositoryKey

FOLDER = "var/nvidia-driver-local-repo-test-580.95.05"


def make_deb(
    folder: Path, *, name: str, version: str, files: Mapping[str, str] | None = None, depends: str = ""
) -> Path:
    """Build a deb that holds one text file and `files`; those below `DEBIAN/` are its maintainer scripts."""
    tree = folder / f"{name}-tree"
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Test\nDescription: {name}\n"
    control += f"Depends: {depends}\n" if depends else ""
    content = {f"usr/share/leeward-test/{name}": version, **(files or {}), "DEBIAN/control": control}
    for path, text in content.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for script in (tree / "DEBIAN").glob("p*"):
        script.chmod(0o755)
    made = folder / f"{name}_{version}_amd64.deb"
    _run("dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(made))
    return made


def make_local_deb(folder: Path, debs: Iterable[Path], *, key: RepositoryKey) -> Path:
    """Build a package like NVIDIA's: a flat repository below /var, with its index, signatures and key."""
    tree = folder / "local-tree"
    repository = tree / FOLDER
    repository.mkdir(parents=True)
    for deb in debs:
        deb.rename(repository / deb.name)
    index = "".join(_stanza(deb) for deb in sorted(repository.glob("*.deb")))
    (repository / "Packages").write_text(index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    release = f"Suite: test\nDate: Tue, 24 Nov 2026 00:00:00 UTC\nSHA256:\n {digest} {len(index)} Packages\n"
    (repository / "Release").write_text(release)
    (repository / "InRelease").write_bytes(key.sign(release.encode()))
    (repository / "nvidia-driver-local-TEST-keyring.gpg").write_bytes(key.public())
    (tree / "DEBIAN").mkdir()
    control = "Package: nvidia-driver-local-repo-test\nVersion: 1.0-1\nArchitecture: amd64\nMaintainer: N\n"
    (tree / "DEBIAN/control").write_text(f"{control}Description: r\n")
    made = folder / "nvidia-driver-local-repo-test_1.0-1_amd64.deb"
    _run("dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(made))
    return made


def _stanza(deb: Path) -> str:
    control = _run("dpkg-deb", "--field", str(deb))
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    return f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n\n"


def make_rpm(folder: Path, *, name: str, version: str, release: str = "1.el9", extra: str = "") -> Path:
    """Build an unsigned rpm that holds one text file; `extra` goes into the spec's head."""
    top = folder / f"rpm-{name}-{version}"
    spec = top / "a.spec"
    top.mkdir(parents=True)
    spec.write_text(
        f"Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: {name}\nLicense: MIT\n{extra}\n"
        "%description\nx\n"
        f"%install\nmkdir -p %{{buildroot}}/usr/share/leeward-test\n"
        f"echo {version} > %{{buildroot}}/usr/share/leeward-test/{name}\n%files\n/usr/share/leeward-test/{name}\n"
    )
    macros = ["--define", f"_topdir {top}", "--define", "_build_id_links none", "--target", "x86_64-linux"]
    _run("rpmbuild", "--quiet", "-bb", *macros, str(spec))
    (made,) = top.rglob("*.rpm")
    return made.rename(folder / made.name)


class RpmSigner:
    """An RSA key in a keyring of its own, as rpm's older readers understand it."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._home = home
        _run(
            "gpg", *self._options, "--passphrase", "", "--quick-generate-key", "Test Signer", "rsa2048", "sign", "never"
        )

    @property
    def _options(self) -> tuple[str, ...]:
        return ("--homedir", str(self._home), "--batch", "--quiet", "--pinentry-mode", "loopback")

    @property
    def fingerprint(self) -> str:
        listing = _run("gpg", *self._options, "--with-colons", "--list-keys")
        return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))

    def public(self) -> str:
        return _run("gpg", *self._options, "--armor", "--export")

    def sign(self, rpm: Path) -> Path:
        macros = {"_gpg_path": self._home, "_gpg_name": "Test Signer", "__gpg": "/usr/bin/gpg"}
        defined = [part for name, value in macros.items() for part in ("--define", f"{name} {value}")]
        _run("rpmsign", *defined, "--addsign", str(rpm))
        return rpm

    def close(self) -> None:
        _run("gpgconf", "--homedir", str(self._home), "--kill", "all")


def fingerprint_of(key: RepositoryKey, scratch: Path) -> str:
    file = scratch / "public.gpg"
    file.write_bytes(key.public())
    listing = _run("gpg", "--batch", "--with-colons", "--show-keys", str(file))
    return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
