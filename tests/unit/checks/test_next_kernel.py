"""The kernel that starts next must be one of the driver's; preflight says so before the role has to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.checks import next_kernel
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding, Outcome
from tests.nodes import node
from tests.unit.checks.releases import CUDA, CUDA_WITHOUT_DRIVER, GB, file

RUNNING, NEXT, LAST = "6.1.0-41-amd64", "6.1.0-50-amd64", "6.1.0-56-amd64"


def ask(*kernels: str, made_for: tuple[str, ...] = (RUNNING,), facts: NodeFacts | None = None) -> Finding:
    headers = tuple(file(f"os/debian-12/pool/linux-headers-{kernel}_1_amd64.deb", GB) for kernel in made_for)
    release = replace(CUDA, files=(*CUDA.files, *headers))
    return next_kernel.evaluate(replace(facts or node("wrong-no-driver"), installed_kernels=kernels), release)


def test_the_newest_kernel_decides() -> None:
    refused, warned = ask(RUNNING, NEXT, LAST), ask(RUNNING, NEXT, LAST, made_for=(RUNNING, LAST))

    assert (refused.outcome, refused.blocking) == (Outcome.FAIL, True)
    assert refused.observed == f"without headers: {NEXT}, {LAST}"
    assert f"apt remove linux-image-{NEXT} linux-image-{LAST}" in refused.remedy
    assert (warned.outcome, warned.blocking) == (Outcome.WARN, False)
    assert ask(RUNNING, LAST, made_for=(RUNNING, LAST)).outcome is Outcome.PASS


def test_an_older_kernel_that_is_kept_for_a_fall_back_does_not_matter() -> None:
    assert ask("6.1.0-9-amd64", RUNNING).outcome is Outcome.PASS


def test_where_the_running_kernel_is_installed_no_more_the_newest_comes_next() -> None:
    facts = replace(node("wrong-no-driver"), kernel="6.18.5")

    assert ask(RUNNING, LAST, facts=facts).outcome is Outcome.FAIL
    assert ask(NEXT, RUNNING, made_for=(NEXT,), facts=facts).outcome is Outcome.PASS


@pytest.mark.parametrize("loaded", ["four-h200", "four-h100"])
def test_a_driver_that_is_loaded_changes_nothing_as_the_next_one_is_built_too(loaded: str) -> None:
    assert ask(RUNNING, LAST, facts=node(loaded)).outcome is Outcome.FAIL


def test_a_release_without_a_driver_asks_for_no_kernel() -> None:
    facts = replace(node("four-h200"), installed_kernels=(RUNNING, LAST))

    assert next_kernel.evaluate(facts, CUDA_WITHOUT_DRIVER).outcome is Outcome.PASS
