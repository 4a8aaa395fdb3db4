"""Every check against nodes that must pass it and nodes that must not."""

from __future__ import annotations

import pytest

from appliance.checks import CHECKS
from appliance.domain.preflight import Finding, Outcome
from appliance.services import preflight
from bundles.release import Release
from tests.nodes import node
from tests.unit.checks.releases import CPU, CUDA, CUDA_WITHOUT_DRIVER

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
]


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


@pytest.mark.parametrize("name", ["four-h100", "four-h200"])
@pytest.mark.parametrize("check", [check.id for check in CHECKS])
def test_a_right_gpu_node_passes_every_check(check: str, name: str) -> None:
    finding = ask(check, name, CUDA)

    assert finding.check == check
    assert finding.outcome is Outcome.PASS, finding
    assert not finding.blocking
    assert finding.observed
    assert finding.required


def test_every_check_can_refuse_or_warn() -> None:
    seen = {check for check, _, _ in REFUSED + WARNED}

    assert seen == set(BY_ID)


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


def test_a_port_held_by_our_own_gateway_is_no_obstacle() -> None:
    assert ask("gateway-port", "odd-port", CUDA).outcome is Outcome.PASS


def test_findings_carry_title_and_group_and_keep_the_order() -> None:
    findings = preflight.evaluate(node("four-h200"), CUDA)

    assert [f.check for f in findings] == [check.id for check in CHECKS]
    assert all(f.title and f.group for f in findings)


def test_without_a_release_nothing_blocks_on_a_right_node() -> None:
    for name in ("four-h200", "lab-node"):
        assert preflight.blocking(preflight.evaluate(node(name), None)) == ()
