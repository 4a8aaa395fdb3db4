from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from appliance.domain.errors import QuotaExceeded
from appliance.domain.quotas import EarlierUse, Measure, Period, Quota, QuotaKind, Scope
from appliance.domain.usage import UNKNOWN_USAGE, ApiKey, TokenUsage, UsageOutcome
from appliance.services.quotas import (
    ASSUMED_COMPLETION_TOKENS,
    IMAGE_TOKENS,
    QuotaBook,
    charge,
    estimate_prompt_tokens,
    estimate_tokens,
)

NOON = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)


def key(number: int = 1, team: str = "research", entity: str = "acme") -> ApiKey:
    return ApiKey(
        key_id=f"key_{number}", name="n", team=team, prefix="lwd_", created_at=NOON, revoked_at=None, entity=entity
    )


def quota(kind: QuotaKind, amount: int, scope: Scope = Scope.KEY, subject: str = "key_1") -> Quota:
    return Quota(scope=scope, subject=subject, kind=kind, amount=amount, set_at=NOON)


def book(*quotas: Quota) -> QuotaBook:
    made = QuotaBook()
    made.install(quotas)
    return made


def admitted(made: QuotaBook, who: ApiKey, times: int, at: datetime = NOON, reserve: int = 0) -> int:
    """Try so often; return how often it was allowed."""
    allowed = 0
    for _ in range(times):
        try:
            made.admit(who, reserve=reserve, at=at).settle(reserve)
        except QuotaExceeded:
            continue
        allowed += 1
    return allowed


@pytest.mark.parametrize(
    ("kind", "later"),
    [
        (QuotaKind.REQUESTS_PER_MINUTE, NOON.replace(minute=1, second=0)),
        (QuotaKind.REQUESTS_PER_DAY, datetime(2026, 11, 25, tzinfo=UTC)),
        (QuotaKind.REQUESTS_PER_MONTH, datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_window_lets_through_what_it_says_and_the_next_begins_anew(kind: QuotaKind, later: datetime) -> None:
    made = book(quota(kind, 3))

    assert admitted(made, key(), 5) == 3
    assert admitted(made, key(), 5, at=later - timedelta(microseconds=1)) == 0
    assert admitted(made, key(), 5, at=later) == 3


def test_a_refusal_says_when_its_window_ends_and_counts_nothing() -> None:
    made = book(quota(QuotaKind.TOKENS_PER_MINUTE, 100), quota(QuotaKind.REQUESTS_PER_DAY, 1))

    with pytest.raises(QuotaExceeded, match="100 tokens/minute of this key") as refused:
        made.admit(key(), reserve=101, at=NOON)

    assert refused.value.retry_after_s == 31
    assert "max_tokens" in refused.value.remedy
    assert admitted(made, key(), 2, reserve=100) == 1


def test_quotas_of_key_team_and_entity_all_hold() -> None:
    made = book(
        quota(QuotaKind.REQUESTS_PER_DAY, 5),
        quota(QuotaKind.REQUESTS_PER_DAY, 7, Scope.TEAM, "research"),
        quota(QuotaKind.REQUESTS_PER_DAY, 9, Scope.ENTITY, "acme"),
    )

    assert admitted(made, key(1), 10) == 5
    assert admitted(made, key(2), 10) == 2
    assert admitted(made, key(3, team="sales"), 10) == 2
    assert admitted(made, key(4, team="sales", entity="other"), 10) == 10


def test_what_was_reserved_gives_way_to_what_it_cost() -> None:
    made = book(quota(QuotaKind.TOKENS_PER_DAY, 1_000))
    first = made.admit(key(), reserve=900, at=NOON)
    with pytest.raises(QuotaExceeded):
        made.admit(key(), reserve=200, at=NOON)

    first.settle(50)
    first.settle(0)
    first.cancel()

    second = made.admit(key(), reserve=900, at=NOON)
    assert [(one.measure, one.limit, one.left) for one in second.remaining] == [(Measure.TOKENS, 1_000, 50)]


def test_a_request_that_was_taken_back_is_as_if_it_never_came() -> None:
    made = book(quota(QuotaKind.REQUESTS_PER_DAY, 1), quota(QuotaKind.CONCURRENCY, 1))

    made.admit(key(), reserve=10, at=NOON).cancel()

    assert admitted(made, key(), 3) == 1


def test_concurrency_counts_what_is_under_way_and_no_more() -> None:
    made = book(quota(QuotaKind.CONCURRENCY, 2, Scope.TEAM, "research"))
    leases = [made.admit(key(number), reserve=1, at=NOON) for number in (1, 2)]

    with pytest.raises(QuotaExceeded, match="concurrency of team research"):
        made.admit(key(3), reserve=1, at=NOON + timedelta(days=40))
    leases[0].settle(1)

    made.admit(key(3), reserve=1, at=NOON)


def test_tokens_belong_to_the_window_of_the_admission() -> None:
    made = book(quota(QuotaKind.TOKENS_PER_MINUTE, 100))
    lease = made.admit(key(), reserve=90, at=NOON)
    next_minute = NOON + timedelta(minutes=1)
    made.admit(key(), reserve=20, at=next_minute)

    lease.settle(100_000)

    assert made.admit(key(), reserve=80, at=next_minute).remaining[0].left == 0


def test_what_earlier_gateways_used_is_added_once_and_only_to_its_own_window() -> None:
    quotas = [quota(QuotaKind.TOKENS_PER_DAY, 1_000, Scope.TEAM, "research")]
    made = QuotaBook()
    assert made.missing(quotas) == (Period.DAY,)
    made.admit(key(), reserve=100, at=NOON).settle(100)
    earlier = [EarlierUse(key_id="key_9", team="research", requests=3, tokens=800)]

    for _ in range(2):
        made.add_earlier(Period.DAY, Period.DAY.start(NOON), earlier, {"research": "acme"})
    made.install(quotas)

    assert made.missing(quotas) == ()
    assert made.admit(key(), reserve=100, at=NOON).remaining[0].left == 0
    assert made.admit(key(), reserve=1_000, at=NOON + timedelta(days=1)).remaining[0].left == 0


def test_a_quota_set_at_noon_holds_for_what_was_used_in_the_morning() -> None:
    made = QuotaBook()
    assert admitted(made, key(), 5, at=NOON - timedelta(hours=3)) == 5

    made.install([quota(QuotaKind.REQUESTS_PER_DAY, 6)])

    assert admitted(made, key(), 5) == 1


def test_a_zero_quota_lets_nothing_through_and_a_lifted_one_lets_all() -> None:
    made = book(quota(QuotaKind.REQUESTS_PER_MINUTE, 0))
    assert admitted(made, key(), 3) == 0

    made.install([])

    assert admitted(made, key(), 3) == 3


def test_only_who_leaves_before_anything_is_known_is_charged_what_was_reserved() -> None:
    known = TokenUsage(prompt_tokens=10, completion_tokens=5)

    assert charge(known, outcome=UsageOutcome.COMPLETED, reserved=900, was_asked=True) == 15
    assert charge(known, outcome=UsageOutcome.CLIENT_CLOSED, reserved=900, was_asked=True) == 15
    assert charge(UNKNOWN_USAGE, outcome=UsageOutcome.CLIENT_CLOSED, reserved=900, was_asked=True) == 900
    assert charge(UNKNOWN_USAGE, outcome=UsageOutcome.CLIENT_CLOSED, reserved=900, was_asked=False) == 0
    assert charge(UNKNOWN_USAGE, outcome=UsageOutcome.UPSTREAM_LOST, reserved=900, was_asked=True) == 0


def test_a_picture_is_estimated_as_a_picture_and_not_by_its_bytes() -> None:
    text = b'{"messages":[{"role":"user","content":"' + b"word" * 100 + b'"}]}'
    picture = b'{"url":"data:image/png;base64,' + b"A" * 5_000_000 + b'"}'

    assert 100 <= estimate_prompt_tokens(text) <= 120
    assert 2 * IMAGE_TOKENS <= estimate_prompt_tokens(picture + picture) <= 2 * IMAGE_TOKENS + 20
    assert estimate_prompt_tokens(b'"data:image/') <= IMAGE_TOKENS


def test_the_completion_that_a_request_allows_is_reserved_and_words_that_look_like_it_are_not() -> None:
    prompt = json.dumps({"content": 'say "max_tokens":900000'}, separators=(",", ":")).encode()

    assert estimate_tokens(prompt) == len(prompt) // 4 + ASSUMED_COMPLETION_TOKENS
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        body = prompt[:-1] + f',"{name}":70}}'.encode()
        assert estimate_tokens(body) == len(body) // 4 + 70
