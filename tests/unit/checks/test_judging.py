"""Strict mode and waivers: what blocks, and what a person may let pass."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from appliance.domain.errors import RequestInvalid
from appliance.domain.preflight import LONGEST_REASON, Finding, Judgement, Outcome, judged
from appliance.services import preflight
from tests.nodes import node
from tests.unit.checks.releases import CUDA


def found(name: str) -> tuple[Finding, ...]:
    return preflight.evaluate(node(name), CUDA)


def by_id(findings: tuple[Finding, ...], check: str) -> Finding:
    return next(finding for finding in findings if finding.check == check)


def waiving(**reasons: str) -> Judgement:
    return Judgement(waivers={check.replace("_", "-"): reason for check, reason in reasons.items()})


def test_a_waived_failure_no_longer_blocks_and_says_why_and_stays_a_failure() -> None:
    findings = judged(found("wrong-ecc"), waiving(gpu_ecc="agreed with the owner"))

    finding = by_id(findings, "gpu-ecc")
    assert (finding.outcome, finding.blocking, finding.waiver) == (Outcome.FAIL, False, "agreed with the owner")
    assert finding.word == "WAIVED"
    preflight.require_passable(findings)


def test_a_waiver_lets_only_its_own_check_pass() -> None:
    facts = replace(node("wrong-ecc"), architecture="riscv64")

    findings = judged(preflight.evaluate(facts, CUDA), waiving(gpu_ecc="agreed"))

    assert [finding.check for finding in preflight.blocking(findings)] == ["architecture"]


@pytest.mark.parametrize("name", ["wrong-disk", "wrong-no-root", "wrong-clock", "wrong-inodes", "wrong-read-only"])
def test_what_trust_and_room_depend_on_cannot_be_waived(name: str) -> None:
    findings = found(name)
    stops = [finding for finding in preflight.blocking(findings) if not finding.waivable]

    assert stops
    for stop in stops:
        with pytest.raises(RequestInvalid, match="cannot be waived"):
            judged(findings, Judgement(waivers={stop.check: "we are in a hurry"}))


def test_an_unknown_check_is_refused_by_name() -> None:
    with pytest.raises(RequestInvalid, match="gpu-eec is no check"):
        judged(found("wrong-ecc"), Judgement(waivers={"gpu-eec": "a slip of the pen"}))


def test_a_waiver_of_what_passes_changes_nothing() -> None:
    assert judged(found("four-h200"), waiving(gpu_ecc="just in case")) == found("four-h200")


def test_strict_lets_warnings_block_and_nothing_else() -> None:
    lenient = found("odd-swap")

    strict = judged(lenient, Judgement(strict=True))

    assert preflight.blocking(lenient) == ()
    assert [finding.check for finding in preflight.blocking(strict)] == ["swap"]
    assert by_id(strict, "swap").outcome is Outcome.WARN


def test_a_warning_may_be_waived_in_strict_mode() -> None:
    strict = judged(found("odd-swap"), Judgement(strict=True, waivers={"swap": "it is encrypted"}))

    assert preflight.blocking(strict) == ()
    assert by_id(strict, "swap").word == "WAIVED"


@pytest.mark.parametrize(
    "parameters",
    [
        {"strict": "yes"},
        {"waivers": "gpu-ecc"},
        {"waivers": "[]"},
        {"waivers": json.dumps({"gpu-ecc": 1})},
        {"waivers": json.dumps({"gpu-ecc": " \n"})},
        {"waivers": json.dumps({"gpu-ecc": "x" * (LONGEST_REASON + 1)})},
    ],
)
def test_a_judgement_that_cannot_be_read_is_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(RequestInvalid):
        Judgement.of(parameters)


def test_a_reason_becomes_one_line() -> None:
    parameters = {"strict": "true", "waivers": json.dumps({"gpu-ecc": "first\nsecond\t third"})}

    assert Judgement.of(parameters) == Judgement(strict=True, waivers={"gpu-ecc": "first second third"})
