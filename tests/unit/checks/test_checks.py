"""Every check against nodes that must pass it and nodes that must not."""

from __future__ import annotations

import pkgutil
import re
from dataclasses import replace
from importlib import import_module

import pytest

import appliance.checks
from appliance.checks import CHECKS
from appliance.domain.preflight import Finding, Outcome
from appliance.services import preflight
from bundles.release import Release
from tests.nodes import node
from tests.unit.checks.releases import CPU, CUDA, CUDA_WITHOUT_DKMS, CUDA_WITHOUT_DRIVER

BY_ID = {check.id: check for check in CHECKS}

REFUSED = [
    ("operating-system", "wrong-system", CUDA),
    ("architecture", "wrong-architecture", CUDA),
    ("kernel", "wrong-kernel", CUDA),
    ("systemd", "wrong-systemd", CUDA),
    ("python", "wrong-python", CUDA),
    ("clock", "wrong-clock", CUDA),
    ("cpu-flags", "wrong-cpu", CPU),
    ("memory", "wrong-memory", CUDA),
    ("disk-space", "wrong-disk", CUDA),
    ("noexec", "wrong-noexec", CUDA),
    ("gpu-driver", "wrong-driver", CUDA),
    ("gpu-driver", "wrong-no-driver", CUDA_WITHOUT_DRIVER),
    ("nouveau", "wrong-nouveau", CUDA),
    ("gpu-count", "wrong-gpu-lost", CUDA),
    ("gpu-count", "lab-node", CUDA),
    ("gpu-memory", "wrong-gpu-memory", CUDA),
    ("gpu-compute-capability", "wrong-gpu-compute", CUDA),
    ("gpu-ecc", "wrong-ecc", CUDA),
    ("gpu-mig", "wrong-mig", CUDA),
    ("gpu-row-remap", "wrong-row-remap", CUDA),
    ("gpu-row-remap", "wrong-row-remap-pending", CUDA),
    ("gpu-nvlink", "wrong-nvlink", CUDA),
    ("gpu-recovery", "wrong-recovery", CUDA),
    ("secure-boot", "wrong-secure-boot", CUDA_WITHOUT_DRIVER),
    ("gateway-port", "wrong-port", CUDA),
    ("package-database", "wrong-broken-packages", CUDA),
    ("cgroup-v2", "wrong-cgroup", CUDA),
    ("accounts", "wrong-accounts", CUDA),
    ("memory-ecc", "wrong-memory-ecc", CUDA),
    ("inodes", "wrong-inodes", CUDA),
    ("boot-room", "wrong-boot", CUDA),
    ("writable", "wrong-read-only", CUDA),
    ("file-system", "wrong-file-system", CUDA),
    ("one-file-system", "wrong-two-file-systems", CUDA),
    ("driver-versions", "wrong-driver-versions", CUDA),
    ("kernel-headers", "wrong-headers", CUDA),
    ("next-kernel", "wrong-next-kernel", CUDA),
    ("dkms", "wrong-dkms", CUDA_WITHOUT_DKMS),
    ("gpu-fit", "wrong-fit", CUDA),
    ("gpu-programs", "wrong-gpu-programs", CUDA),
    ("gpu-ecc-errors", "wrong-ecc-errors", CUDA),
    ("gpu-retired-pages", "wrong-retired-pages", CUDA),
    ("fabric-manager", "wrong-fabric-manager", CUDA),
    ("fabric-manager", "wrong-no-fabric-manager", CUDA),
    ("gpu-fabric", "wrong-fabric", CUDA),
    ("trust-root", "wrong-no-root", CUDA),
    ("lockdown", "wrong-lockdown", CUDA_WITHOUT_DRIVER),
    ("fapolicyd", "wrong-fapolicyd", CUDA),
    ("management-networks", "wrong-management-networks", CUDA),
]

WARNED = [
    ("simulation", "odd-simulated", CUDA),
    ("kernel", "odd-kernel", CUDA),
    ("clock-source", "odd-clock-source", CUDA),
    ("cpu-flags", "odd-cpu", CPU),
    ("gpu-driver", "wrong-no-driver", CUDA),
    ("gpu-model", "wrong-gpu-compute", CUDA),
    ("gpu-memory-use", "odd-gpu-use", CUDA),
    ("gpu-ecc", "odd-ecc", CUDA),
    ("gpu-ecc", "wrong-no-driver", CUDA),
    ("gpu-nvlink", "odd-nvlink", CUDA),
    ("gpu-recovery", "wrong-gpu-lost", CUDA),
    ("gpu-pcie", "odd-pcie", CUDA),
    ("gpu-persistence", "odd-persistence", CUDA),
    ("shared-memory", "odd-shm", CUDA),
    ("secure-boot", "wrong-secure-boot", CUDA),
    ("fips", "odd-fips", CUDA),
    ("default-route", "odd-route", CUDA),
    ("virtualization", "odd-container", CUDA),
    ("pending-reboot", "odd-reboot", CUDA),
    ("unattended-upgrades", "odd-unattended", CUDA),
    ("time-zone", "odd-time-zone", CUDA),
    ("locale", "odd-locale", CUDA),
    ("umask", "odd-umask", CUDA),
    ("journal", "odd-journal", CUDA),
    ("accounts", "odd-accounts", CUDA),
    ("remains", "odd-remains", CUDA),
    ("memory-ecc", "odd-memory-ecc", CUDA),
    ("numa", "odd-numa", CUDA),
    ("huge-pages", "odd-huge-pages", CUDA),
    ("swap", "odd-swap", CUDA),
    ("open-files", "odd-open-files", CUDA),
    ("file-system", "odd-file-system", CUDA),
    ("disk-latency", "odd-slow-disk", CUDA),
    ("disk-latency", "odd-unmeasured", CUDA),
    ("time-to-import", "odd-slow-disk", CUDA),
    ("time-to-import", "odd-unmeasured", CUDA),
    ("time-to-load", "odd-slow-disk", CUDA),
    ("driver-flavour", "odd-closed-modules", CUDA),
    ("gpu-vbios", "odd-vbios", CUDA),
    ("gpu-pending-modes", "odd-pending-modes", CUDA),
    ("gpu-temperature", "odd-hot", CUDA),
    ("gpu-clocks", "odd-clocks", CUDA),
    ("gpu-power-limit", "odd-power-limit", CUDA),
    ("gpu-nvlink-pairs", "odd-two-bridges", CUDA),
    ("gpu-p2p", "odd-p2p", CUDA),
    ("fabric-manager", "odd-fabric-manager", CUDA),
    ("gpu-pcie-generation", "odd-pcie-generation", CUDA),
    ("acs", "odd-acs", CUDA),
    ("iommu", "odd-iommu", CUDA),
    ("lockdown", "wrong-lockdown", CUDA),
    ("selinux", "odd-selinux", CUDA),
    ("other-engines", "odd-other-engine", CUDA),
    ("container-engines", "odd-docker", CUDA),
    ("other-firewalls", "odd-firewalld", CUDA),
    ("network-link", "odd-no-link", CUDA),
    ("name-servers", "odd-name-servers", CUDA),
    ("hostname", "odd-hostname", CUDA),
    ("management-networks", "odd-management-networks", CUDA),
]

RIGHT = ["four-h100", "four-h200", "four-h200-nvl", "eight-h100-hgx"]


def ask(check: str, name: str, release: Release | None) -> Finding:
    return BY_ID[check].evaluate(node(name), release)


@pytest.mark.parametrize(("check", "name", "release"), REFUSED)
def test_a_wrong_node_is_refused_with_a_remedy(check: str, name: str, release: Release) -> None:
    finding = ask(check, name, release)

    assert finding.check == check
    assert (finding.outcome, finding.blocking) == (Outcome.FAIL, True)
    assert finding.observed
    assert finding.required
    assert finding.remedy


@pytest.mark.parametrize(("check", "name", "release"), WARNED)
def test_an_odd_node_is_warned_of_and_let_through(check: str, name: str, release: Release) -> None:
    finding = ask(check, name, release)

    assert finding.check == check
    assert (finding.outcome, finding.blocking) == (Outcome.WARN, False)
    assert finding.remedy


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("check", [check.id for check in CHECKS])
def test_a_right_gpu_node_passes_every_check(check: str, name: str) -> None:
    finding = ask(check, name, CUDA)

    assert finding.check == check
    assert finding.outcome is Outcome.PASS, finding
    assert not finding.blocking
    assert finding.observed
    assert finding.required


def test_every_check_can_refuse_or_warn_and_there_are_sixty_at_least() -> None:
    seen = {check for check, _, _ in REFUSED + WARNED}

    assert seen == set(BY_ID)
    assert len(CHECKS) >= 60


def test_every_module_of_the_package_that_asks_something_is_asked() -> None:
    asking = {
        module.ID
        for info in pkgutil.iter_modules(appliance.checks.__path__)
        if hasattr(module := import_module(f"appliance.checks.{info.name}"), "evaluate")
    }

    assert asking == set(BY_ID)


def test_every_check_says_why_it_is_asked_in_one_sentence() -> None:
    for check in CHECKS:
        assert re.fullmatch(r"[A-Z].+[^.]\.", check.why), check.id


def test_a_release_for_the_cpu_passes_on_a_node_without_gpus() -> None:
    findings = preflight.evaluate(node("lab-node"), CPU)

    assert preflight.blocking(findings) == ()
    assert [f.check for f in findings if f.outcome is not Outcome.PASS] == []


def test_a_gpu_release_is_refused_on_a_node_without_gpus_by_name() -> None:
    stops = preflight.blocking(preflight.evaluate(node("lab-node"), CUDA_WITHOUT_DRIVER))

    assert {"gpu-driver", "gpu-count", "memory"} <= {finding.check for finding in stops}


def test_a_new_node_whose_driver_is_on_the_medium_may_go_on() -> None:
    findings = preflight.evaluate(node("wrong-no-driver"), CUDA)

    assert preflight.blocking(findings) == ()
    assert any(f.check == "gpu-driver" and f.outcome is Outcome.WARN for f in findings)


def test_a_new_node_whose_kernel_the_release_has_headers_for_gets_its_driver_built() -> None:
    findings = {f.check: f for f in preflight.evaluate(node("new-node"), CUDA)}

    assert not any(f.blocking for f in findings.values())
    assert findings["kernel-headers"].observed == "in the release"
    assert findings["dkms"].observed == "in the release"


def test_a_kernel_without_headers_names_those_that_the_release_carries() -> None:
    finding = ask("kernel-headers", "wrong-headers", CUDA)

    assert "6.1.0-41-amd64" in finding.observed
    assert "common" not in finding.observed
    assert "linux-headers-6.1.0-56-amd64" in finding.remedy


def test_the_fit_shows_weights_cache_and_what_remains_in_numbers() -> None:
    finding = ask("gpu-fit", "four-h100", CUDA)

    assert "weights take 134.0 GB" in finding.observed
    assert "131,072 tokens" in finding.observed


def test_a_virtual_machine_keeps_its_access_control() -> None:
    facts = replace(node("odd-acs"), virtualization="machine")

    assert BY_ID["acs"].evaluate(facts, CUDA).outcome is Outcome.PASS


def test_an_import_that_finds_everything_in_the_store_takes_no_time() -> None:
    held = replace(node("odd-slow-disk"), stored_sha256=frozenset(file.sha256 for file in CUDA.files))

    assert BY_ID["time-to-import"].evaluate(held, CUDA).observed == "nothing to copy"


def test_a_port_held_by_our_own_gateway_is_no_obstacle() -> None:
    assert ask("gateway-port", "odd-port", CUDA).outcome is Outcome.PASS


def test_findings_carry_title_and_group_and_keep_the_order() -> None:
    findings = preflight.evaluate(node("four-h200"), CUDA)

    assert [f.check for f in findings] == [check.id for check in CHECKS]
    assert all(f.title and f.group for f in findings)


def test_without_a_release_nothing_blocks_on_a_right_node() -> None:
    for name in ("four-h200", "lab-node"):
        assert preflight.blocking(preflight.evaluate(node(name), None)) == ()
