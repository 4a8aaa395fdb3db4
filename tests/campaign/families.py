"""The driver's role on nodes that say they are Ubuntu 22.04, Ubuntu 24.04 and Rocky 9, from first run to rollback.

    python -m tests.campaign.families

What is real: the role, apt, dnf and rpm, signed repositories, DKMS, the compiler, the kernel's headers.
What is not: the system beneath, which is Debian 12 with another name, and the driver, whose packages
have the true names and a module that compiles in seconds. No Ubuntu or RHEL kernel, GRUB, dracut,
SELinux or MokManager of theirs is seen here. About six minutes on two cores.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.domain.errors import PlaybookFailed
from appliance.ports import PlayResult
from bundles.sources import SourceContext, make_source
from tests.lab import Lab, Node
from tests.lab.requirements import install_tools
from tests.roles.conftest import CHECKOUT
from tests.roles.driver_packages import RHEL_PACKAGES, UBUNTU_PACKAGES, make_driver
from tests.roles.driver_rpms import make_rpm_driver
from tests.roles.namespaces import inside
from tests.roles.test_driver_changes import BROKEN, NEW, OLD, SLOTS, Driver
from tests.unit.sources.packages import RpmSigner

FAULT = "#error too few arguments to function"
EL_KERNEL = "5.14.0-570.el9.x86_64"
_UBUNTU = """\
NAME="Ubuntu"
VERSION_ID="{version}"
VERSION="{version} LTS"
ID=ubuntu
ID_LIKE=debian
VERSION_CODENAME={code}
"""
_ROCKY = (
    'NAME="Rocky Linux"\nVERSION_ID="9.6"\nVERSION="9.6 (Blue Onyx)"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
    'PLATFORM_ID="platform:el9"\nPRETTY_NAME="Rocky Linux 9.6 (Blue Onyx)"\n'
)
_EL = f"""
set -e
deb="deb [signed-by=/root/tools/leeward-os.gpg check-date=no] file:/root/tools leeward main"
echo "$deb" > /etc/apt/sources.list.d/tools.list
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update; apt-get -qq -y --no-install-recommends install {{packages}} >/dev/null
mkdir -p /etc/yum.repos.d /etc/dnf/plugins /lib/modules/{EL_KERNEL}
cp -r /lib/modules/{{kernel}}/modules.* /lib/modules/{EL_KERNEL}/
ln -s /usr/src/linux-headers-{{kernel}} /lib/modules/{EL_KERNEL}/build
mv /boot/vmlinuz-{{kernel}} /boot/vmlinuz-{EL_KERNEL}
rm /etc/debian_version; echo "Rocky Linux release 9.6 (Blue Onyx)" > /etc/redhat-release
"""


@dataclass(kw_only=True)
class Family:
    """One node of one family; every line that is printed was asserted."""

    name: str
    driver: Driver
    shown: str
    """Command that lists the packages there are."""
    held: str
    """Command that says which versions are held."""
    index: str
    """What is signed in the package repository, where this role reads it (for apt it is role base)."""
    begun: float
    point_at: Callable[[str], object] = lambda _version: None
    """Show apt the package repository of a release, as role base does; for dnf this role does it."""

    def say(self, *words: object) -> None:
        print(f"{time.monotonic() - self.begun:6.0f} s  {self.name}:", *words, flush=True)  # noqa: T201  it tells what it sees

    @property
    def node(self) -> Node:
        return self.driver.node

    def apply(self, version: str, *tags: str) -> PlayResult:
        self.point_at(version)
        return self.driver.apply(version, *tags)

    def packages(self) -> set[str]:
        return set(self.node.ssh(self.shown).stdout.split())

    def module(self, kernel: str) -> str:
        return str(self.node.ssh(f"modinfo -k {kernel} -F version nvidia").stdout.strip())

    def refusal(self, attempt: Callable[[], object]) -> str:
        try:
            attempt()
        except PlaybookFailed as refused:
            return str(refused.detail)
        raise AssertionError(f"{self.name}: it went through")


def walk(family: Family, kernel: str, packages: tuple[str, ...]) -> None:
    """Install, again, upgrade, break and roll back, remove; raises AssertionError where anything is otherwise."""
    seen = family.node.ssh(". /etc/os-release; echo $ID $VERSION_ID").stdout.strip()
    first = family.apply(OLD)
    assert (first.failed, first.rescued) == (0, 0)
    names = {line.partition("=")[0]: line.partition("=")[2] for line in family.packages()}
    assert {names[name].split("-")[0].split(":")[-1] for name in packages} == {OLD}
    assert family.module(kernel) == OLD
    family.say(f"the node says {seen}; installed by the role, compiled for {kernel}:", ", ".join(packages))
    again = family.apply(OLD)
    assert (again.changed, again.failed) == (0, 0), [
        event for event in family.driver.site.events if "changed" in str(event)
    ]
    family.say("again: 0 changed")
    held = family.node.ssh(family.held).stdout
    assert all(name in held for name in packages), held
    family.say("held:", " ".join(held.split()))

    before = family.packages()
    said = family.refusal(lambda: family.apply(BROKEN))
    assert "The packages are as they were before." in said, said
    assert "candidate" not in said, said  # it was to be found, and did not compile
    assert family.packages() == before, family.packages() ^ before
    assert family.module(kernel) == OLD
    family.say("a driver that does not compile:", said[:160], "...")
    assert family.apply(OLD).failed == 0
    assert family.apply(OLD).changed == 0
    assert all(name in family.node.ssh(family.held).stdout for name in packages)
    family.say("undone; the old driver is there, a further run changes nothing")

    assert family.apply(NEW).failed == 0
    assert family.module(kernel) == NEW
    assert family.apply(NEW).changed == 0
    family.say(f"{NEW} replaces the held {OLD}; again: 0 changed")

    if family.index:
        _tamper(family)
    family.apply(NEW, "remove")
    assert family.node.ssh("ls /etc/modprobe.d/leeward-nouveau.conf", check=False).returncode != 0
    assert not any(name in family.node.ssh(family.held).stdout for name in packages)
    family.say("removed what Leeward froze and blacklisted; the packages stay:", len(family.packages()))


def _tamper(family: Family) -> None:
    index, forget = f"{SLOTS}/{NEW}/os/{family.driver.system}/{family.index}", "dnf -q clean all"
    zeros = "0" * 64
    family.node.ssh(f"cp -p {index} /root/kept && sed -i '0,/[0-9a-f]\\{{64\\}}/s//{zeros}/' {index}; {forget}")
    said = family.refusal(lambda: family.apply(NEW, "install", "verify"))
    family.say("a tampered index is refused:", said[:240])
    family.node.ssh(f"cp -p /root/kept {index}; {forget}")
    assert family.apply(NEW).changed == 0


def ubuntu(lab: Lab, folder: Path, *, version: str, code: str, begun: float) -> None:
    """A node with apt that says it is Ubuntu."""
    name, system = f"Ubuntu {version}", f"ubuntu-{version.partition('.')[0]}"
    node = lab.create(system, with_kernel=True)
    node.up()
    kernel = node.ssh("ls /boot/vmlinuz-*").stdout.strip().removeprefix("/boot/vmlinuz-")
    packages = UBUNTU_PACKAGES
    for driver, fault in ((OLD, ""), (NEW, ""), (BROKEN, FAULT)):
        cache = CHECKOUT / ".cache"
        named = (f"nvidia-driver-pinning-{driver}", *packages)
        made = make_driver(
            folder, version=driver, kernel=kernel, cache=cache, fault=fault, system=system, packages=named
        )
        node.copy_to(made, f"{SLOTS}/{driver}/os/{system}")
    node.ssh(f"ln -s {OLD} {SLOTS}/current; mkdir -p /var/lib/leeward/state")
    with inside(node.exec_prefix[-1]):
        family = Family(
            name=name,
            driver=Driver(node, folder, system=system, roles=["nvidia_driver"]),
            shown="dpkg-query -W -f '${db:Status-Status}:${Package}=${Version}\\n' | sed -n 's/^installed://p'",
            held="apt-mark showhold",
            index="",
            begun=begun,
        )
        # Role base knows Debian 12 only; what the driver's role needs of it is apt's configuration.
        base = Driver(node, folder, system=system, roles=["base"])
        node.ssh("cp -L /etc/os-release /root/debian")

        def point_at(release: str) -> None:
            node.ssh("rm /etc/os-release; cp /root/debian /etc/os-release")
            base.apply(release)
            node.ssh("cat > /etc/os-release", input=_UBUNTU.format(version=version, code=code))

        family.point_at = point_at
        point_at(OLD)
        walk(family, kernel, packages)
    node.destroy()


def rocky(lab: Lab, folder: Path, *, begun: float) -> None:
    """A node with dnf that says it is Rocky."""
    install_tools(
        {"rpmbuild": "rpm", "rpm2cpio": "rpm2cpio", "cpio": "cpio", "createrepo_c": "createrepo-c", "dnf": "dnf"}
    )
    node = lab.create("rocky", with_kernel=True)
    node.up()
    kernel = node.ssh("ls /boot/vmlinuz-*").stdout.strip().removeprefix("/boot/vmlinuz-")
    tools = ("dnf", "dnf-plugins-core", "dkms", "build-essential", f"linux-headers-{kernel}")
    context = SourceContext(recipe_folder=CHECKOUT, cache=CHECKOUT / ".cache", progress=lambda *_: None)
    (folder / "tools").mkdir()
    make_source({"kind": "debian", "suite": "bookworm", "packages": list(tools), "driver": False}, context).fetch(
        folder / "tools"
    )
    node.copy_to(folder / "tools", "/root/tools")
    signer = RpmSigner(folder / "signer")
    try:
        for driver, fault in ((OLD, ""), (NEW, ""), (BROKEN, FAULT)):
            cache = CHECKOUT / ".cache"
            made = make_rpm_driver(folder, version=driver, kernel=EL_KERNEL, signer=signer, cache=cache, fault=fault)
            node.copy_to(made, f"{SLOTS}/{driver}/os/rhel-9")
    finally:
        signer.close()
    node.ssh(f"ln -s {OLD} {SLOTS}/current; mkdir -p /var/lib/leeward/state")
    node.ssh("sh -s", input=_EL.replace("{packages}", " ".join(tools)).replace("{kernel}", kernel))
    node.ssh("cat > /etc/os-release", input=_ROCKY)
    with inside(node.exec_prefix[-1]):
        family = Family(
            name="Rocky 9.6",
            driver=Driver(node, folder, system="rhel-9", roles=["nvidia_driver"]),
            shown="rpm -qa --qf '%{NAME}=%{EVR}\\n'",
            held="cat /etc/dnf/plugins/versionlock.list",
            index="repodata/repomd.xml",
            begun=begun,
        )
        walk(family, EL_KERNEL, RHEL_PACKAGES)
    node.destroy()


def main() -> None:
    """Walk with each family."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="leeward-families-") as scratch, Lab(Path(scratch, "lab")) as lab:
        for number, (version, code) in enumerate((("24.04", "noble"), ("22.04", "jammy"))):
            (Path(scratch) / str(number)).mkdir()
            ubuntu(lab, Path(scratch) / str(number), version=version, code=code, begun=begun)
            shutil.rmtree(Path(scratch) / str(number))
        (Path(scratch) / "rocky").mkdir()
        rocky(lab, Path(scratch) / "rocky", begun=begun)


if __name__ == "__main__":
    main()
