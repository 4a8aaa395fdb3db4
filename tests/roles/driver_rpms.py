"""The driver that is none (`driver_packages`), as rpms for a node that has dnf."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from bundles.sources import SourceContext, make_source
from tests.lab.process import run
from tests.roles.driver_packages import FABRIC, RHEL_PACKAGES, UNIT, module_source
from tests.unit.sources.packages import FOLDER, RpmSigner, make_rpm

_SCRIPTS = """
%post -n {name}
dkms add -m nvidia -v {version} -q || :
dkms build -m nvidia -v {version} -k {kernel} -q && dkms install -m nvidia -v {version} -k {kernel} -q --force || :
%preun -n {name}
dkms remove -m nvidia -v {version} --all -q || :
"""
"""As in NVIDIA's package: a module that does not compile does not fail the transaction."""


def make_rpm_driver(
    folder: Path, *, version: str, kernel: str, signer: RpmSigner, cache: Path, fault: str = ""
) -> Path:
    """Make a release's `os/rhel-9` with this driver for an EL kernel (`5.14.0-570.el9.x86_64`)."""
    work = folder / f"rpms-{version}"
    others = work / "others"
    (work / "driver").mkdir(parents=True)
    others.mkdir()
    upstream, _, release = kernel.removesuffix(".x86_64").partition("-")
    (others / "RPM-GPG-KEY-vendor").write_text(signer.public())
    signer.sign(make_rpm(others, name="dkms", version="3.2.1"))
    signer.sign(make_rpm(others, name="mokutil", version="0.6.0"))
    signer.sign(make_rpm(others, name="kernel-devel", version=upstream, release=release))
    # What every EL has; here rpm's database is empty, and the files are Debian's.
    signer.sign(make_rpm(others, name="el-base", version="9", extra="Provides: /bin/sh glibc bash"))
    for name in (*RHEL_PACKAGES, FABRIC):
        files = module_source(version, fault=fault) if "dkms" in name else {}
        if not files and name in {"nvidia-persistenced", FABRIC}:
            files = {f"usr/lib/systemd/system/{name}.service": UNIT.format(name=name)}
        scripts = _SCRIPTS.format(name=name, version=version, kernel=kernel) if "dkms" in name else ""
        signer.sign(_make(work / "driver", name=name, version=version, files=files, scripts=scripts))
    local = _local_package(work, signer)
    (work / "driver.toml").write_text(
        f'schema = "leeward-driver/1"\nversion = "{version}"\nfolder = "."\n[systems.rhel-9]\n'
        f'kernels = ["{kernel}"]\npackages = {list(RHEL_PACKAGES)}\nfabric_manager = ["{FABRIC}"]\n'
        f'archives = [{{ file = "{local.name}", sha256 = "{hashlib.sha256(local.read_bytes()).hexdigest()}", '
        f'key = "{signer.fingerprint}" }}]\n'
    )
    context = SourceContext(recipe_folder=work, cache=cache, progress=lambda *_: None)
    table = {"kind": "rpm", "folder": "others", "keys": [signer.fingerprint]}
    repository = folder / f"os-{version}"
    repository.mkdir()
    make_source({**table, "driver": {"set": "driver.toml", "system": "rhel-9"}}, context).fetch(repository)
    return repository


def _make(folder: Path, *, name: str, version: str, files: Mapping[str, str], scripts: str) -> Path:
    """Build an rpm of these files, with scriptlets."""
    tree = folder / f"{name}-tree"
    content = files or {f"usr/share/leeward-test/{name}": version}
    for path, text in content.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    top = folder / f"top-{name}"
    top.mkdir()
    listed = "\n".join(f"/{path}" for path in content)
    (top / "a.spec").write_text(
        f"Name: {name}\nEpoch: 3\nVersion: {version}\nRelease: 1.el9\nSummary: {name}\nLicense: MIT\n"
        f"%description\nx\n%install\ncp -a {tree}/. %{{buildroot}}/\n{scripts}\n%files\n{listed}\n"
    )
    macros = ["--define", f"_topdir {top}", "--define", "_build_id_links none", "--target", "x86_64-linux"]
    run(["rpmbuild", "--quiet", "-bb", *macros, top / "a.spec"])
    (made,) = top.rglob("*.rpm")
    return made.rename(folder / made.name)


def _local_package(work: Path, signer: RpmSigner) -> Path:
    """Build a package like NVIDIA's: a repository below /var, with its key."""
    (work / "nvidia.pub").write_text(signer.public())
    (work / "local.spec").write_text(
        "Name: nvidia-driver-local-repo-rhel9\nVersion: 1.0\nRelease: 1\nSummary: r\nLicense: MIT\n"
        f"%description\nx\n%install\nmkdir -p %{{buildroot}}/{FOLDER}/repodata\n"
        f"cp {work}/driver/*.rpm %{{buildroot}}/{FOLDER}/\ntouch %{{buildroot}}/{FOLDER}/repodata/repomd.xml\n"
        f"cp {work}/nvidia.pub %{{buildroot}}/{FOLDER}/D42D0685.pub\n%files\n/{FOLDER}\n"
    )
    macros = ["--define", f"_topdir {work}/local", "--target", "x86_64-linux"]
    run(["rpmbuild", "--quiet", "-bb", *macros, work / "local.spec"])
    (made,) = (work / "local").rglob("*.rpm")
    return made.rename(work / made.name)
