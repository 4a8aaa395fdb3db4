"""What is said of Secure Boot at each step of a key's way into the firmware."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.checks import lockdown, secure_boot
from appliance.domain.preflight import Finding, Outcome
from bundles.release import Release
from tests.nodes import node
from tests.unit.checks.releases import CUDA, CUDA_WITHOUT_DRIVER


def ask(key: str | None, release: Release = CUDA) -> Finding:
    return secure_boot.evaluate(replace(node("wrong-secure-boot"), module_key=key), release)


@pytest.mark.parametrize(
    ("key", "said"), [("none", "no key"), ("unknown", "does not know"), ("waiting", "waits for somebody")]
)
@pytest.mark.parametrize(("release", "outcome"), [(CUDA, Outcome.WARN), (CUDA_WITHOUT_DRIVER, Outcome.FAIL)])
def test_until_the_key_is_enrolled_the_finding_says_how_far_it_is(
    key: str, said: str, release: Release, outcome: Outcome
) -> None:
    finding = ask(key, release)

    assert finding.outcome is outcome
    assert said in finding.observed


def test_a_key_that_waits_is_not_to_be_prepared_again() -> None:
    remedies = {key: ask(key).remedy for key in ("unknown", "waiting")}

    assert "mokutil --import" in remedies["unknown"]
    assert "mokutil --import" not in remedies["waiting"]
    assert "Enroll MOK" in remedies["waiting"]
    locked = replace(node("wrong-secure-boot"), module_key="waiting", lockdown="integrity")
    assert "mokutil --import" not in lockdown.evaluate(locked, CUDA).remedy


def test_an_enrolled_key_passes_secure_boot_and_lockdown() -> None:
    facts = replace(node("wrong-secure-boot"), module_key="enrolled", lockdown="integrity")

    assert secure_boot.evaluate(facts, CUDA_WITHOUT_DRIVER).outcome is Outcome.PASS
    assert lockdown.evaluate(facts, CUDA_WITHOUT_DRIVER).outcome is Outcome.PASS
    assert lockdown.evaluate(replace(facts, module_key="unknown"), CUDA_WITHOUT_DRIVER).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("name", "outcome"), [("unknown", Outcome.WARN), ("waiting", Outcome.WARN), ("enrolled", Outcome.PASS)]
)
def test_a_real_kernel_under_real_firmware_is_read_as_it_was(name: str, outcome: Outcome) -> None:
    """Recorded by tests/campaign/secure_boot.py before and after somebody was at the console."""
    facts = node(f"secure-boot-{name}")

    assert (facts.secure_boot, facts.module_key, facts.lockdown) == (True, name, "integrity")
    assert secure_boot.evaluate(facts, CUDA).outcome is outcome
    assert lockdown.evaluate(facts, CUDA).outcome is outcome
