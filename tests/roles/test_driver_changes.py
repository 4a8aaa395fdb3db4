"""The driver's role in a node's life: installed, changed, failed and restored; by real apt and real DKMS.

The packages bear the real names and a module that compiles in seconds; what the real driver does is
seen in test_driver.py. Boards, firmware and loaded modules are recorded folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from appliance.domain.errors import PlaybookFailed
from appliance.ports import PlayRequest, PlayResult
from tests.lab import Lab, Node
from tests.roles.conftest import CHECKOUT, site_of
from tests.roles.driver_packages import FABRIC, PACKAGES, make_driver, make_playbooks
from tests.roles.namespaces import inside

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

OLD, NEW, BROKEN = "580.1.1", "580.2.2", "580.3.3"
SLOTS = "/var/lib/leeward/slots"
RESTART = "/run/leeward-restart"


class Driver:
    """A node and the role, applied with one of three releases."""

    def __init__(
        self, node: Node, folder: Path, *, system: str = "debian-12", roles: Sequence[str] = ("base", "nvidia_driver")
    ) -> None:
        self.node = node
        self.system = system
        self.site = site_of(node, folder)
        self.playbooks = make_playbooks(folder / f"playbooks-{'-'.join(roles)}", CHECKOUT, *roles)

    def apply(self, version: str, *tags: str, **variables: object) -> PlayResult:
        repository = f"{SLOTS}/{version}/os/{self.system}"
        chosen = {"base_repository": repository, "nvidia_driver_repository": repository, "nvidia_driver_enabled": True}
        request = PlayRequest(
            playbooks=self.playbooks,
            playbook="site.yml",
            inventory=self.site.inventory,
            variables={**self.site.variables, **chosen, **variables},
            tags=tags,
        )
        self.site.events.clear()
        return self.site.runner.run(request, emit=self.site.events.append, is_canceled=lambda: False)

    def packages(self) -> dict[str, str]:
        """Every package that is there in whatever state, with that state and its version."""
        shown = self.node.ssh("dpkg-query -W -f '${Package} ${db:Status-Abbrev}${Version}\n'").stdout
        return dict(line.split(" ", 1) for line in shown.splitlines() if line.split(" ", 1)[1][1:2] not in "nc")

    def reasons(self) -> dict[str, dict[str, object]]:
        listed = self.node.ssh(f"cd {RESTART} && for name in *; do echo $name $(cat $name); done", check=False).stdout
        return {
            name: json.loads(text) for name, text in (line.split(" ", 1) for line in listed.splitlines() if "{" in line)
        }


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    folder = tmp_path_factory.mktemp("driver-changes")
    with Lab(folder / "lab") as lab:
        node = lab.create("changes", with_kernel=True)
        node.up()
        kernel = node.ssh("ls /boot/vmlinuz-*").stdout.strip().removeprefix("/boot/vmlinuz-")
        for version, fault in ((OLD, ""), (NEW, ""), (BROKEN, "#error too few arguments to function")):
            made = make_driver(folder, version=version, kernel=kernel, cache=CHECKOUT / ".cache", fault=fault)
            node.copy_to(made, f"{SLOTS}/{version}/os/debian-12")
        node.ssh(f"ln -s {OLD} {SLOTS}/current; mkdir -p /var/lib/leeward/state")
        with inside(node.exec_prefix[-1]):
            yield Driver(node, folder)


def test_a_kernel_that_the_driver_does_not_compile_for_is_refused_before_anything_is_changed(driver: Driver) -> None:
    before = driver.packages()
    driver.node.ssh("touch /boot/vmlinuz-6.1.0-999-amd64")

    with pytest.raises(PlaybookFailed) as refused:
        driver.apply(OLD)

    driver.node.ssh("rm /boot/vmlinuz-6.1.0-999-amd64")
    assert "would start 6.1.0-999-amd64 next" in refused.value.detail
    assert "cannot be compiled: nv-pci.c:223: too few arguments" in refused.value.detail
    assert {name for name in driver.packages() if name not in before} & {"dkms", *PACKAGES} == set()
    assert driver.node.ssh("ls /etc/modprobe.d/leeward-nouveau.conf", check=False).returncode != 0


def test_the_driver_of_nvidias_archive_is_installed_compiled_and_frozen(driver: Driver) -> None:
    result = driver.apply(OLD)

    held = set(driver.node.ssh("apt-mark showhold").stdout.split())
    assert (result.failed, result.rescued) == (0, 0)
    assert {driver.packages()[name] for name in PACKAGES} == {f"hi {OLD}-1"}
    assert f"nvidia/{OLD}" in driver.node.ssh("dkms status").stdout
    assert set(PACKAGES) <= held
    assert any(name.startswith("linux-image-") for name in held)
    assert FABRIC not in driver.packages()
    assert driver.node.ssh("systemctl is-enabled nvidia-persistenced").stdout.strip() == "enabled"
    assert driver.reasons() == {}


def test_a_second_run_changes_nothing(driver: Driver) -> None:
    assert driver.apply(OLD).changed == 0


def test_what_the_role_says_of_the_driver_is_what_an_outsider_finds(driver: Driver) -> None:
    """By testinfra over SSH, which shares nothing with the role's own proof."""
    host = driver.site.host
    (kernel,) = host.check_output("ls /lib/modules").split()
    held = host.check_output("apt-mark showhold").split()
    wanted = {*PACKAGES, f"linux-image-{kernel}", f"linux-headers-{kernel}"}

    found = {name: (host.package(name).is_installed, name in held) for name in wanted}
    module = host.file(f"/lib/modules/{kernel}/updates/dkms/nvidia.ko")

    assert found == dict.fromkeys(wanted, (True, True))
    assert {host.package(name).version for name in PACKAGES} == {f"{OLD}-1"}
    assert (module.user, module.mode, module.size > 0) == ("root", 0o644, True)
    assert host.file("/etc/modprobe.d/leeward-nouveau.conf").contains("^blacklist nouveau$")
    assert host.service("nvidia-persistenced").is_enabled
    assert not host.package(FABRIC).is_installed
    assert not host.file("/etc/apt/sources.list").content_string.strip()
    assert host.run(f"apt-get -s install nvidia-driver-cuda={NEW}-1").rc != 0


def test_fabric_manager_comes_where_the_board_has_nvswitches_in_the_drivers_version(driver: Driver) -> None:
    driver.node.ssh(
        "for bus in 07 08; do mkdir -p /root/pci/0000:$bus:00.0; echo 0x10de > /root/pci/0000:$bus:00.0/vendor; done; "
        "echo 0x030200 > /root/pci/0000:07:00.0/class; echo 0x068000 > /root/pci/0000:08:00.0/class"
    )

    driver.apply(OLD, nvidia_driver_pci="/root/pci")

    assert set(driver.reasons()) == {"driver"}  # there are GPUs, and no driver is loaded
    assert driver.packages()[FABRIC] == f"hi {OLD}-1"
    assert driver.node.ssh(f"systemctl is-enabled {FABRIC}").stdout.strip() == "enabled"


def test_a_driver_that_does_not_compile_is_undone_to_the_one_that_was_there(driver: Driver) -> None:
    before, held = driver.packages(), driver.node.ssh("apt-mark showhold").stdout

    with pytest.raises(PlaybookFailed) as failed:
        driver.apply(BROKEN)

    assert "The packages are as they were before." in failed.value.detail
    assert driver.packages() == before
    assert driver.node.ssh("apt-mark showhold").stdout == held
    assert driver.node.ssh("dpkg --audit").stdout == ""
    assert f"nvidia/{OLD}" in driver.node.ssh("dkms status").stdout
    assert OLD in driver.node.ssh("modinfo -k $(ls /lib/modules | head -1) nvidia").stdout


def test_where_the_packages_from_before_cannot_be_had_that_is_said(driver: Driver) -> None:
    with pytest.raises(PlaybookFailed) as failed:
        driver.apply(BROKEN, nvidia_driver_previous_repository="/nowhere")

    assert "NOT as they were before" in failed.value.detail
    assert f"nvidia-kernel-open-dkms={OLD}-1" in failed.value.detail
    driver.apply(OLD)
    assert {driver.packages()[name] for name in PACKAGES} == {f"hi {OLD}-1"}


def test_a_newer_driver_replaces_the_frozen_one_and_asks_for_a_restart_where_the_old_is_loaded(driver: Driver) -> None:
    driver.node.ssh(f"mkdir -p /root/loaded/nvidia && echo {OLD} > /root/loaded/nvidia/version")

    driver.apply(NEW, nvidia_driver_modules="/root/loaded")

    assert {driver.packages()[name] for name in PACKAGES} == {f"hi {NEW}-1"}
    assert driver.reasons() == {
        "driver": {"reason": f"driver {NEW} is not loaded; found {OLD}", "at_console": False},
    }


def test_a_reason_goes_away_with_what_made_it_true(driver: Driver) -> None:
    driver.node.ssh("mkdir -p /root/loaded/nouveau && rm -r /root/loaded/nvidia")
    driver.apply(NEW, "verify", nvidia_driver_modules="/root/loaded")
    asked = driver.reasons()

    driver.apply(NEW, "verify")

    assert set(asked) == {"nouveau"}
    assert driver.reasons() == {}
