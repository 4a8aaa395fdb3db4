"""A real driver and a real kernel that do not fit: refused before anything is changed, undone where it is forced.

    python -m tests.campaign.kernel_pair

NVIDIA's open modules 535.261.03 compile for the kernel of Debian 12's point release, and not for the
kernel of its security suite (nv-pci.c:223: too few arguments to function 'pci_resize_resource').
A node with the whole playbook and a stand-in engine gets the one, then the other. Compiles the real
driver twice; about ten minutes on two cores. At the end the node is started as a machine.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.domain.errors import PlaybookFailed
from bundles.keys import Keyring
from bundles.sources import SourceContext, make_source
from tests.lab import Lab, Node
from tests.lab.process import run
from tests.roles.conftest import CHECKOUT, SLOT_PATH, Site, put_appliance, site_of
from tests.roles.inventory_of_node import differences, seen_on
from tests.roles.namespaces import inside
from tests.roles.product import DAEMON_AND_CLI, findings, put_product, start_daemon
from tests.roles.slot import make_slot
from tests.roles.test_driver import PACKAGES, VERSION
from tests.roles.test_site import ASK_ENGINE
from tests.support.small_bundles import blank_release, tree, write_bundle

REASON = "nv-pci.c:223: too few arguments to function 'pci_resize_resource'"
FORCED = "/var/lib/leeward/slots/forced/os/debian-12"
MEDIUM = "/root/medium"


@dataclass(kw_only=True)
class Pair:
    """The node, the kernel that its driver is for, and the one that came with an update."""

    node: Node
    site: Site
    folder: Path
    good: str
    bad: str
    begun: float

    def say(self, *words: object) -> None:
        print(f"{time.monotonic() - self.begun:6.0f} s ", *words, flush=True)  # noqa: T201  it tells what it sees

    def serves(self) -> bool:
        """Ask the engine's socket, as the gateway does."""
        self.node.ssh("systemctl start leeward-engine && sleep 3")
        answer = json.loads(self.node.ssh("python3 -", input=ASK_ENGINE).stdout)
        return bool(answer["arguments"])

    def modules(self) -> str:
        status = self.node.ssh("dkms status").stdout.strip()
        signed = self.node.ssh(f"modinfo -k {self.good} -F version nvidia-current-open").stdout.strip()
        return f"{status.replace(chr(10), '; ')}; modinfo {signed}"

    def bring_the_other_kernel(self) -> None:
        """Install it without its headers, as an administrator's update does."""
        self.node.copy_to(self.folder / "kernel", "/root/kernel")
        self.node.ssh("dpkg -i --force-depends /root/kernel/*.deb")

    def put_medium(self) -> None:
        """Put a release whose package archive has the names of the real one; preflight reads no more of it."""
        names = [path.name for path in (self.folder / "slot/os/debian-12/pool").rglob("*.deb")]
        files = tree() | {f"os/debian-12/pool/{name}": b"x" for name in names}
        release = blank_release()
        assert release.requirements is not None
        release = replace(release, requirements=replace(release.requirements, gpus=1, gpu_memory_bytes=80 * 10**9))
        write_bundle(self.folder / "medium", Keyring.create(self.folder / "keys"), release=release, files=files)
        self.node.copy_to(self.folder / "medium", MEDIUM)


def walk(pair: Pair) -> None:
    """Go the whole way; raises AssertionError where anything is otherwise than it should be."""
    node, site, say = pair.node, pair.site, pair.say
    assert site.apply(nvidia_driver_enabled=True).failed == 0
    assert pair.serves()
    say(f"driver {VERSION} is compiled for {pair.good}; the engine answers:", pair.modules())

    pair.bring_the_other_kernel()
    put_product(node, *DAEMON_AND_CLI)
    pair.put_medium()
    start_daemon(node)
    found = findings(node, medium=MEDIUM)["next-kernel"]
    assert found.blocking, found
    say(f"preflight {found.word} {found.check}: {found.observed}")
    say(f"    {found.remedy}")
    before = seen_on(node)
    for way, attempt in (("plan", site.plan), ("provision", lambda: site.apply(nvidia_driver_enabled=True))):
        site.variables["nvidia_driver_enabled"] = True
        said = _refusal(attempt)
        assert f"cannot be compiled: {REASON}" in said, said
        assert "Nothing was changed" in said
        say(f"{way} refuses: {said}")
    assert differences(before, seen_on(node)) == {}
    assert pair.serves()
    say("nothing was changed, and the engine answers")

    forced = {"base_repository": FORCED, "nvidia_driver_repository": FORCED, "nvidia_driver_enabled": True}
    said = _refusal(lambda: site.apply(**forced))
    assert "The packages are as they were before." in said, said
    log = node.ssh("grep -rhs 'error:' /var/lib/dkms/*/*/build/make.log /var/log/apt/term.log", check=False).stdout
    say("forced through by a release that claims both kernels:", said)
    say("    the compiler said:", next(iter(log.splitlines()), "no word was kept"))
    left = differences(before, seen_on(node))
    left.pop("routing", None)
    say("    left behind:", {name: sorted(lines)[:6] for name, lines in left.items()} or "nothing")
    assert not {"packages", "held packages", "enabled units", "running services"} & set(left), left
    assert node.ssh("dpkg --audit").stdout == ""
    assert pair.good in pair.modules()
    assert pair.serves()
    say("undone; the engine answers:", pair.modules())

    node.ssh("systemctl stop checkout-leewardd")
    node.ssh(f"apt-get -qq purge --allow-change-held-packages -y linux-image-{pair.bad}; sync")
    node.down()
    took = node.up(mode="vm")
    kernel = node.ssh("uname --kernel-release").stdout.strip()
    node.ssh("modprobe nvidia", check=False)
    said = re.search("NVRM: .*", node.ssh("dmesg").stdout)
    assert kernel == pair.good
    assert said
    assert "No NVIDIA GPU found" in said.group()
    assert pair.serves()
    say(f"started as a machine in {took:.0f} s with {kernel}: {said.group()}; the engine answers")


def _refusal(attempt: object) -> str:
    assert callable(attempt)
    try:
        attempt()
    except PlaybookFailed as refused:
        return str(refused.detail)
    raise AssertionError("it went through")


def main() -> None:
    """Make both releases and the node, then walk."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="leeward-kernel-pair-") as scratch, Lab(Path(scratch, "lab")) as lab:
        folder = Path(scratch)
        node = lab.create("pair", with_kernel=True)
        node.up()
        good = node.ssh("ls /boot/vmlinuz-*").stdout.strip().removeprefix("/boot/vmlinuz-")
        newest = run(["apt-cache", "depends", "linux-image-amd64"]).stdout
        bad = re.search(r"linux-image-([\w.-]+)", newest.partition("Depends:")[2])
        assert bad
        make_slot(folder / "slot")
        _make_repository(folder / "slot/os/debian-12", kernels=[good], refused={bad.group(1): REASON})
        _make_repository(folder / "forced", kernels=[good, bad.group(1)], refused={})
        node.copy_to(folder / "slot", SLOT_PATH)
        node.copy_to(folder / "forced", FORCED)
        node.ssh(f"ln -s {SLOT_PATH.rpartition('/')[2]} {SLOT_PATH.rpartition('/')[0]}/current")
        put_appliance(node)
        (folder / "kernel").mkdir()
        run(["sh", "-ec", 'cd "$0" && apt-get -qq download "$@"', folder / "kernel", f"linux-image-{bad.group(1)}"])
        with inside(node.exec_prefix[-1]):
            site = site_of(node, folder)
            pair = Pair(node=node, site=site, folder=folder, good=good, bad=bad.group(1), begun=begun)
            pair.say(f"{good} and {bad.group(1)}")
            walk(pair)
            node.down()


def _make_repository(folder: Path, *, kernels: list[str], refused: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    driver = {"version": VERSION, "packages": PACKAGES, "kernels": kernels, "kernels_refused": refused}
    context = SourceContext(recipe_folder=CHECKOUT, cache=CHECKOUT / ".cache", progress=lambda *_: None)
    make_source({"kind": "debian", "suite": "bookworm", "driver": driver}, context).fetch(folder)


if __name__ == "__main__":
    main()
