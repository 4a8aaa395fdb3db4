"""Secure Boot on a real kernel under real firmware: what is refused, who lets it in, and what Leeward says meanwhile.

    python -m tests.campaign.secure_boot [--record FOLDER]

A node gets a driver (packages of the real names, whose module compiles in seconds) by the role, in a
container. Its disk is then started as a machine with Microsoft's keys in its firmware: shim, GRUB and
kernel are Debian's signed ones. The module's key is unknown there, so the kernel refuses it; the role
prepares the enrolment; somebody at the console confirms it in MokManager; the module loads. About
eight minutes on two cores without KVM. `--record` keeps the redacted facts of each state.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.domain.preflight import Outcome
from appliance.ports import PlayResult
from bundles.keys import Keyring
from tests.lab import Lab, Node
from tests.lab.firmware import DOWN, ENTER, signed_programs
from tests.roles.conftest import CHECKOUT
from tests.roles.driver_packages import make_driver
from tests.roles.namespaces import inside
from tests.roles.product import DAEMON_AND_CLI, facts, findings, leeward, put_product, start_daemon
from tests.roles.test_driver_changes import SLOTS, Driver
from tests.support.small_bundles import blank_release, tree, write_bundle

VERSION = "580.1.1"
MEDIUM = "/root/medium"
PASSWORD = "/var/lib/leeward/state/mok-password"  # noqa: S105  a path
CHECKS = ("secure-boot", "lockdown")
_ANOTHERS_KEY = """
set -e; cd /root; cp /lib/modules/$(uname -r)/updates/dkms/nvidia.ko* .; [ ! -e nvidia.ko.xz ] || unxz -f nvidia.ko.xz
cp nvidia.ko flipped.ko; printf '\\001' | dd of=flipped.ko bs=1 seek=64 conv=notrunc status=none
strip --strip-debug nvidia.ko -o anothers.ko
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=another/ -days 30 -keyout k.pem -outform DER -out k.der 2>&-
$(ls /usr/lib/linux-kbuild-*/scripts/sign-file) sha256 k.pem k.der anothers.ko
"""
_ASK = f"""
set -e; umask 077; openssl passwd -6 -in {PASSWORD} > {PASSWORD}.hash
mokutil --import /var/lib/dkms/mok.pub --hash-file {PASSWORD}.hash; rm {PASSWORD}.hash
"""


@dataclass(kw_only=True)
class Campaign:
    """One walk; each line that is printed was asserted."""

    node: Node
    driver: Driver
    record: Path | None
    begun: float

    def say(self, *words: object) -> None:
        print(f"{time.monotonic() - self.begun:6.0f} s ", *words, flush=True)  # noqa: T201  it tells what it sees

    def start(self) -> None:
        took = self.node.up(mode="vm", secure_boot=True)
        assert "SecureBoot enabled" in self.node.ssh("mokutil --sb-state").stdout
        assert "[integrity]" in self.node.ssh("cat /sys/kernel/security/lockdown").stdout
        self.say(f"started through signed shim, GRUB and kernel in {took:.0f} s; the kernel is locked down")
        start_daemon(self.node)

    def load(self, command: str = "modprobe nvidia") -> str:
        """Try to load a module; return what the program and the kernel said, or nothing where it is loaded."""
        self.node.ssh("rmmod nvidia", check=False)
        self.node.ssh("dmesg --clear")
        tried = self.node.ssh(command, check=False)
        if tried.returncode == 0:
            assert "nvidia " in self.node.ssh("lsmod").stdout
            return ""
        kernel = str(self.node.ssh("dmesg --notime").stdout)
        return f"{tried.stderr.strip()} / {kernel.strip().splitlines()[0] if kernel.strip() else 'no word'}"

    def look(self, state: str, outcome: Outcome) -> None:
        """See that facts and findings are of this state of the key, and print them."""
        seen = facts(self.node)
        assert (seen["secure_boot"], seen["module_key"]) == (True, state)
        by_check = findings(self.node, medium=MEDIUM)
        for found in map(by_check.__getitem__, CHECKS):
            assert found.outcome is outcome, found
            self.say(f"preflight {found.word} {found.check}: {found.observed}")
            if found.remedy:
                self.say(f"    {found.remedy}")
        if self.record:
            note = f"A virtual machine with Secure Boot on, no GPU; the key that signs modules is {state}."
            kept = {"origin": "recorded", "note": note, "facts": seen}
            (self.record / f"secure-boot-{state}.json").write_text(json.dumps(kept, indent=1) + "\n")

    def verify(self) -> PlayResult:
        """Run the role's part after the installation, over SSH."""
        result = self.driver.apply(VERSION, "verify")
        assert result.failed == 0
        return result

    def import_from_the_sandbox(self) -> None:
        """Ask for the key's enrolment again, as the role does, but with no more rights than the daemon's unit has."""
        unit = (CHECKOUT / "appliance/units/leewardd.service").read_text()
        for daemons, ours in (
            ("ExecStart=/opt/leeward/appliance/current/bin/leewardd", "ExecStart=/bin/sh /root/ask"),
            ("Type=exec", "Type=oneshot"),
            ("Restart=always", "Restart=no"),
            ("RuntimeDirectory=leeward", "RuntimeDirectory=sandbox"),
        ):
            assert daemons in unit
            unit = unit.replace(daemons, ours)
        self.node.ssh("mokutil --revoke-import")
        assert facts(self.node)["module_key"] == "unknown"
        self.node.ssh("cat > /root/ask", input=_ASK)
        self.node.ssh("cat > /run/systemd/system/sandbox.service && systemctl daemon-reload", input=unit)
        self.node.ssh("systemctl start sandbox")

    def confirm_at_the_console(self) -> None:
        """Restart, and be the person in front of MokManager."""
        password = self.node.ssh(f"cat {PASSWORD}").stdout.strip()
        with self.node.sit_down_at_console() as console:
            self.node.ssh("systemctl reboot", check=False)
            console.wait_for("Press any key", timeout_s=240)
            console.press(ENTER)
            for shown, keys in (
                ("Enroll MOK", (DOWN, ENTER)),
                ("View key 0", (DOWN, ENTER)),
                ("Enroll the key", (DOWN, ENTER)),
                ("Password:", (*password, ENTER)),
                ("Reboot", (ENTER,)),
            ):
                console.wait_for(shown)
                console.press(*keys)
            console.wait_for("login:", timeout_s=300)
        self.node.wait_for_boot(timeout_s=300)


def until_the_console(campaign: Campaign) -> None:
    """See the refusal, and let the role ask for the enrolment."""
    node, say = campaign.node, campaign.say
    campaign.start()

    refused = campaign.load()
    assert "Key was rejected by service" in refused, refused
    say("the driver's module is refused:", refused)
    campaign.look("unknown", Outcome.WARN)

    campaign.verify()
    reasons = campaign.driver.reasons()
    assert reasons["secure-boot"]["at_console"] is True
    assert node.ssh(f"stat -c '%a %U' {PASSWORD}").stdout == "600 root\n"
    assert node.ssh(f"ls {PASSWORD}.hash", check=False).returncode != 0
    assert "[key 1]" in node.ssh("mokutil --list-new").stdout
    say("the role has asked for the enrolment; reasons for a restart:", ", ".join(sorted(reasons)))
    campaign.look("waiting", Outcome.WARN)
    assert campaign.verify().failed == 0
    say("asked again before anybody went to the console: one password, that of the key that waits")


def at_the_console(campaign: Campaign) -> None:
    """Confirm the key, and see what loads then and what still does not."""
    node, say = campaign.node, campaign.say
    campaign.import_from_the_sandbox()
    assert facts(node)["module_key"] == "waiting"
    say("the daemon's sandbox lets mokutil ask for it too")

    campaign.confirm_at_the_console()
    say("confirmed in MokManager over the serial console")
    start_daemon(node)
    loaded = campaign.load()
    assert loaded == "", loaded
    say("the driver's module is loaded:", node.ssh("grep '^nvidia' /proc/modules").stdout.strip())
    campaign.look("enrolled", Outcome.PASS)
    campaign.verify()
    assert "secure-boot" not in campaign.driver.reasons()
    assert node.ssh(f"ls {PASSWORD}", check=False).returncode != 0
    assert campaign.verify().changed == 0
    say("the role has nothing more to ask, its password is gone, a further run changes nothing")

    node.ssh(_ANOTHERS_KEY)
    for file, whose in (
        ("anothers.ko", "signed with a key that is not enrolled"),
        ("flipped.ko", "altered by one byte"),
    ):
        refused = campaign.load(f"insmod /root/{file}")
        assert refused, file
        assert "nvidia " not in node.ssh("lsmod").stdout
        say(f"the same module, {whose}, is refused: {refused}")
    say(leeward(node, f"preflight --medium {MEDIUM}").splitlines()[-1])


def main() -> None:
    """Make the node, then run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path)
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="leeward-secure-boot-") as scratch, Lab(Path(scratch, "lab")) as lab:
        folder = Path(scratch)
        node = lab.create("secureboot", with_kernel=True)
        signed_programs(lab.cache)
        node.up()
        kernel = node.ssh("ls /boot/vmlinuz-*").stdout.strip().removeprefix("/boot/vmlinuz-")
        made = make_driver(folder, version=VERSION, kernel=kernel, cache=CHECKOUT / ".cache")
        node.copy_to(made, f"{SLOTS}/{VERSION}/os/debian-12")
        _put_medium(node, folder)
        put_product(node, *DAEMON_AND_CLI)
        with inside(node.exec_prefix[-1]):
            driver = Driver(node, folder)
            assert driver.apply(VERSION).failed == 0
            node.ssh("sync")
            node.down()
            alone = Driver(node, folder, roles=["nvidia_driver"])
            campaign = Campaign(node=node, driver=alone, record=asked.record, begun=begun)
            campaign.say("the driver is compiled and signed by DKMS with the node's own key")
            until_the_console(campaign)
            at_the_console(campaign)
            node.down()


def _put_medium(node: Node, folder: Path) -> None:
    """Put the medium of a release that needs a GPU and brings its driver."""
    release = blank_release()
    assert release.requirements is not None
    release = replace(release, requirements=replace(release.requirements, gpus=1, gpu_memory_bytes=80 * 10**9))
    files = tree() | {f"os/debian-12/pool/nvidia-kernel-open-dkms_{VERSION}-1_all.deb": b"x"}
    write_bundle(folder / "medium", Keyring.create(folder / "keys"), release=release, files=files)
    node.copy_to(folder / "medium", MEDIUM)


if __name__ == "__main__":
    main()
