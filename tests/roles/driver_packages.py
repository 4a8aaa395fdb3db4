"""A driver that is none: packages of the real names, whose module compiles in seconds and does nothing.

What is real about them is how they come and go: NVIDIA-like local repository, signed set, apt, DKMS.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from bundles.sources import SourceContext, make_source
from bundles.sources.repository_key import RepositoryKey
from tests.unit.sources.packages import fingerprint_of, make_deb, make_local_deb

PACKAGES = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced")
UBUNTU_PACKAGES = ("libnvidia-compute", "nvidia-dkms-open", "nvidia-persistenced")
RHEL_PACKAGES = ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced")
FABRIC = "nvidia-fabricmanager"
_DAEMONS = ("nvidia-persistenced", FABRIC)

_DKMS_CONF = """\
PACKAGE_NAME="nvidia"
PACKAGE_VERSION="{version}"
BUILT_MODULE_NAME[0]="nvidia"
DEST_MODULE_LOCATION[0]="/updates/dkms"
AUTOINSTALL="yes"
MAKE[0]="make -C ${{kernel_source_dir}} M=${{dkms_tree}}/${{PACKAGE_NAME}}/${{PACKAGE_VERSION}}/build modules"
"""
_MODULE = """\
#include <linux/module.h>
{fault}
static int __init begin(void) {{ return 0; }}
static void __exit end(void) {{ }}
module_init(begin);
module_exit(end);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION("{version}");
"""
UNIT = """\
[Unit]
Description=Stands for {name}
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""


def module_source(version: str, *, fault: str = "") -> dict[str, str]:
    """Return the files of the module's source in /usr/src, as DKMS wants them; `fault` is put into it."""
    source = f"usr/src/nvidia-{version}"
    return {
        f"{source}/dkms.conf": _DKMS_CONF.format(version=version),
        f"{source}/Makefile": "obj-m += nvidia.o\n",
        f"{source}/nvidia.c": _MODULE.format(version=version, fault=fault),
    }


def make_driver(
    folder: Path,
    *,
    version: str,
    kernel: str,
    cache: Path,
    fault: str = "",
    system: str = "debian-12",
    packages: tuple[str, ...] = PACKAGES,
) -> Path:
    """Make a release's `os/<system>` with this driver; `fault` is put into the module's source."""
    work = folder / f"driver-{version}-{system}"
    work.mkdir(parents=True)
    scripts = {
        "DEBIAN/postinst": f"#!/bin/sh\nset -e\n/usr/lib/dkms/common.postinst nvidia {version} '' '' ''\n",
        "DEBIAN/prerm": f"#!/bin/sh\ndkms remove -m nvidia -v {version} --all || true\n",
    }

    def make(name: str) -> Path:
        if "dkms" in name:
            files = module_source(version, fault=fault) | scripts
            return make_deb(work, name=name, version=f"{version}-1", files=files, depends="dkms")
        unit = {f"lib/systemd/system/{name}.service": UNIT.format(name=name)} if name in _DAEMONS else {}
        return make_deb(work, name=name, version=f"{version}-1", files=unit)

    key = RepositoryKey(work / "key")
    local = make_local_deb(work, [make(name) for name in (*packages, FABRIC)], key=key)
    (work / "driver.toml").write_text(
        f'schema = "leeward-driver/1"\nversion = "{version}"\nfolder = "."\n[systems.{system}]\n'
        f'kernels = ["{kernel}"]\npackages = {list(packages)}\nfabric_manager = ["{FABRIC}"]\n'
        'kernels_refused = { "6.1.0-999-amd64" = "nv-pci.c:223: too few arguments" }\n'
        f'archives = [{{ file = "{local.name}", sha256 = "{hashlib.sha256(local.read_bytes()).hexdigest()}", '
        f'key = "{fingerprint_of(key, work)}" }}]\n'
    )
    context = SourceContext(recipe_folder=work, cache=cache, progress=lambda *_: None)
    table = {"kind": "debian", "suite": "bookworm", "driver": {"set": "driver.toml", "system": system}}
    repository = folder / f"os-{version}-{system}"
    repository.mkdir()
    make_source(table, context).fetch(repository)
    return repository


def make_playbooks(folder: Path, checkout: Path, *roles: str) -> Path:
    """Make a folder of playbooks with these roles of ours alone: the rest of a node is not the matter here."""
    shutil.copytree(checkout / "playbooks", folder)
    listed = "".join(f"    - role: {role}\n" for role in roles)
    play = f"---\n- name: The driver\n  hosts: leeward_nodes\n  gather_facts: true\n  roles:\n{listed}"
    (folder / "site.yml").write_text(play)
    return folder
