"""Licence terms and statements: recorded once, audited first, judged by the month."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from appliance.domain.errors import NotFound, RequestInvalid
from appliance.domain.license import ComplianceState, RevenueBand, Statement, assess
from appliance.domain.operation import Actor
from appliance.services.compliance import Compliance
from appliance.services.keys import Keys
from bundles.release import LicenseEntry
from tests.unit.checks.releases import CUDA, file
from tests.unit.exports.twins import NOW, TwinAuditLog, TwinClock, TwinKeys, TwinLicenses

ADA = Actor(name="ada", uid=1000)
RELEASE = replace(
    CUDA,
    files=(*CUDA.files, file("licenses/target/LICENSE", 1_695)),
    licenses=(
        LicenseEntry(
            applies_to="weights/target/",
            spdx_id="LicenseRef-Mistral-Modified-MIT",
            path="licenses/target/LICENSE",
            threshold_usd_monthly=20_000_000,
        ),
    ),
)


class Desk:
    def __init__(self) -> None:
        self.register, self.audit, self.clock = TwinLicenses(), TwinAuditLog(), TwinClock()
        self.compliance = Compliance(register=self.register, audit=self.audit, clock=self.clock)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def statement(**changes: Any) -> Statement:  # noqa: ANN401  any of its values
    values = {
        "use_month": "2026-11",
        "band": RevenueBand.UNDER_HALF,
        "legal_entity": "ACME GmbH",
        "signatory": "A. Ada",
        "role": "CFO",
    }
    return Statement(**{**values, **changes})


def test_without_terms_there_is_nothing_to_comply_with(desk: Desk) -> None:
    assert desk.compliance.state() is ComplianceState.NO_TERMS


def test_terms_of_a_release_are_recorded_once_and_make_a_statement_due(desk: Desk) -> None:
    first = desk.compliance.record_terms(RELEASE, ADA)
    second = desk.compliance.record_terms(RELEASE, ADA)

    assert [terms.text_sha256 for terms in first] == [RELEASE.file("licenses/target/LICENSE").sha256]
    assert second == ()
    assert desk.audit.acts() == [("license.terms", "recorded")]
    assert desk.audit.written[0].details["threshold_usd_monthly"] == "20000000"
    assert desk.compliance.state() is ComplianceState.ATTESTATION_DUE
    assert "leeward license attest" in desk.compliance.note()


def test_a_statement_covers_its_month_and_no_other(desk: Desk) -> None:
    desk.compliance.record_terms(RELEASE, ADA)

    made = desk.compliance.attest(statement(), ADA)

    assert (made.recorded_by, made.made_at) == ("ada", NOW)
    assert desk.compliance.state() is ComplianceState.COMPLIANT
    desk.clock.time = datetime(2026, 12, 1, tzinfo=UTC)
    assert desk.compliance.state() is ComplianceState.ATTESTATION_DUE


def test_the_same_statement_of_a_step_that_runs_again_is_recorded_once(desk: Desk) -> None:
    desk.compliance.attest(statement(), ADA, made_at=NOW)
    desk.clock.time += timedelta(minutes=5)

    desk.compliance.attest(statement(), ADA, made_at=NOW)

    assert len(desk.register.attestations()) == 1
    assert desk.audit.acts() == [("license.attest", "recorded")]


def test_the_act_is_in_the_audit_log_before_it_is_in_the_register(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(desk.register, "add_attestation", lambda _: seen.append(desk.audit.count()))

    desk.compliance.attest(statement(), ADA)

    assert seen == [1]


def test_a_correction_by_the_same_entity_counts_and_one_entity_over_is_enough(desk: Desk) -> None:
    desk.compliance.record_terms(RELEASE, ADA)
    desk.compliance.attest(statement(band=RevenueBand.OVER), ADA)
    assert desk.compliance.state() is ComplianceState.OVER_THRESHOLD

    desk.compliance.attest(statement(legal_entity="Other AG"), ADA)
    assert desk.compliance.state() is ComplianceState.OVER_THRESHOLD

    desk.clock.time += timedelta(hours=1)
    desk.compliance.attest(statement(band=RevenueBand.EIGHTY_TO_HUNDRED), ADA)
    assert desk.compliance.state() is ComplianceState.COMPLIANT


def test_terms_without_a_threshold_ask_for_no_statement() -> None:
    terms = TwinLicenses()
    desk_terms = replace(
        RELEASE,
        licenses=(replace(RELEASE.licenses[0], spdx_id="Apache-2.0", threshold_usd_monthly=None),),
    )
    Compliance(register=terms, audit=TwinAuditLog(), clock=TwinClock()).record_terms(desk_terms, ADA)

    assert assess(terms.terms(), (), NOW) is ComplianceState.COMPLIANT


@pytest.mark.parametrize(
    "changes",
    [
        {"use_month": "2026-13"},
        {"use_month": "2026-1"},
        {"use_month": "11/2026"},
        {"use_month": "2026-11\n"},
        {"legal_entity": ""},
        {"legal_entity": "   "},
        {"signatory": "A\x1b[31m"},
        {"role": "x" * 201},
    ],
)
def test_a_statement_that_is_none_is_refused_and_leaves_no_trace(desk: Desk, changes: dict[str, str]) -> None:
    with pytest.raises(RequestInvalid):
        desk.compliance.attest(statement(**changes), ADA)

    assert desk.audit.acts() == []
    assert desk.register.attestations() == ()


def test_a_month_that_has_not_begun_cannot_be_stated(desk: Desk) -> None:
    with pytest.raises(RequestInvalid) as caught:
        desk.compliance.attest(statement(use_month="2026-12"), ADA)

    assert "has not begun" in caught.value.detail
    assert desk.audit.acts() == []


def test_a_month_that_is_past_can_still_be_stated(desk: Desk) -> None:
    assert desk.compliance.attest(statement(use_month="2026-09"), ADA).use_month == "2026-09"


def test_making_and_revoking_a_key_stand_in_the_log_begun_and_ended_without_the_secret() -> None:
    audit, register = TwinAuditLog(), TwinKeys()
    keys = Keys(register=register, audit=audit, clock=TwinClock())

    key, secret = keys.create(name=" ci ", team="research", actor=ADA)
    keys.revoke(key.key_id, ADA)

    assert audit.acts() == [
        ("key.create", "begun"),
        ("key.create", "succeeded"),
        ("key.revoke", "begun"),
        ("key.revoke", "succeeded"),
    ]
    assert audit.written[1].object == key.key_id
    assert (key.name, key.team) == ("ci", "research")
    assert all(secret not in str(entry) for entry in audit.written)
    assert [made.revoked_at for made in keys.list()] == [NOW]


def test_a_key_that_could_not_be_made_or_found_is_in_the_log_as_failed() -> None:
    audit, register = TwinAuditLog(), TwinKeys()
    register.fails = NotFound(detail="no ledger", remedy="Provision.")
    keys = Keys(register=register, audit=audit, clock=TwinClock())

    with pytest.raises(NotFound):
        keys.create(name="ci", team="research", actor=ADA)
    with pytest.raises(NotFound):
        keys.revoke("key_9", ADA)

    assert [outcome for _, outcome in audit.acts()] == ["begun", "failed", "begun", "failed"]
    assert keys.list() == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", "\ud800"])
def test_a_key_without_a_proper_name_is_refused_before_the_log(name: str) -> None:
    audit = TwinAuditLog()
    keys = Keys(register=TwinKeys(), audit=audit, clock=TwinClock())

    with pytest.raises(RequestInvalid):
        keys.create(name=name, team="research", actor=ADA)
    with pytest.raises(RequestInvalid):
        keys.create(name="ci", team=name, actor=ADA)

    assert audit.acts() == []
