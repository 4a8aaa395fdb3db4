"""Tries to get out, added up over restarts of everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.egress import (
    ALARM_FOR,
    MANY,
    MOST_DESTINATIONS,
    EgressReading,
    EgressRecord,
    Try,
    alerts,
    begin,
    fold,
    report,
)
from appliance.domain.health import Severity

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def tried(count: int, *, destination: str = "192.0.2.7:443", account: str = "leeward-engine") -> Try:
    return Try(account=account, protocol="tcp", destination=destination, count=count)


def reading(*counted: Try, seen: tuple[Try, ...] = (), missing: tuple[str, ...] = ()) -> EgressReading:
    return EgressReading(counted=counted, seen=seen, cursor="c", missing=missing)


def total(record: EgressRecord) -> int:
    return sum(attempt.count for attempt in record.attempts)


def test_what_was_counted_before_is_not_counted_again() -> None:
    first, fresh = fold(begin(NOW), reading(tried(3)), NOW)
    second, again = fold(first, reading(tried(5)), NOW + timedelta(seconds=15))

    assert [attempt.count for attempt in fresh] == [3]
    assert again == ()
    assert total(second) == 5
    assert second.attempts[0].first_at == NOW


def test_tables_that_were_loaded_anew_count_from_zero() -> None:
    first, _ = fold(begin(NOW), reading(tried(3)), NOW)
    emptied, _ = fold(first, reading(), NOW)
    second, _ = fold(emptied, reading(tried(2)), NOW)

    assert total(second) == 5


def test_a_table_that_could_not_be_read_is_not_counted_twice_when_it_can() -> None:
    first, _ = fold(begin(NOW), reading(tried(3)), NOW)
    blind, _ = fold(first, reading(missing=("the firewall's table",)), NOW)
    second, _ = fold(blind, reading(tried(3)), NOW)

    assert total(second) == 3
    assert blind.missing == ("the firewall's table",)
    assert second.missing == ()


def test_what_two_tables_counted_for_one_account_is_added_up_once() -> None:
    first, _ = fold(begin(NOW), reading(tried(3), tried(1)), NOW)
    second, _ = fold(first, reading(tried(3), tried(1)), NOW)

    assert total(first) == 4
    assert total(second) == 4


def test_what_the_witness_saw_is_added_as_it_comes() -> None:
    socket = Try(account="leeward-engine", protocol="unix", destination="@/tmp/x", count=1)
    first, _ = fold(begin(NOW), reading(seen=(socket,)), NOW)
    second, _ = fold(first, reading(seen=(socket,)), NOW)

    assert total(second) == 2


def test_destinations_are_bounded_and_no_try_is_lost() -> None:
    many = tuple(tried(1, destination=f"192.0.2.7:{port}") for port in range(MOST_DESTINATIONS + 10))

    record, _ = fold(begin(NOW), reading(*many), NOW)

    assert len(record.attempts) == MOST_DESTINATIONS + 1
    assert total(record) == len(many)
    assert record.attempts[-1].destination == MANY


@given(st.lists(st.integers(min_value=0, max_value=50), min_size=1, max_size=30))
def test_the_sum_is_what_the_kernel_counted_between_its_resets(counters: list[int]) -> None:
    record, expected, before = begin(NOW), 0, 0
    for counter in counters:
        record, _ = fold(record, reading(tried(counter)), NOW)
        expected += counter - before if counter >= before else counter
        before = counter

    assert total(record) == expected


def test_the_first_try_of_the_appliance_raises_an_alarm_and_another_programs_does_not() -> None:
    ours, _ = fold(begin(NOW), reading(tried(1)), NOW)
    other, _ = fold(begin(NOW), reading(tried(1, account="root")), NOW)

    (alarm,) = alerts(ours, NOW)

    assert (alarm.code, alarm.severity) == ("egress-attempt", Severity.FAIL)
    assert "192.0.2.7:443" in alarm.advice
    assert alerts(other, NOW) == ()
    assert report(other).others == 1
    assert report(other).ours == 0


def test_the_alarm_ends_and_the_record_stays() -> None:
    record, _ = fold(begin(NOW), reading(tried(1)), NOW)
    later, _ = fold(record, reading(tried(1)), NOW + ALARM_FOR)

    assert alerts(later, NOW + ALARM_FOR) == ()
    assert report(later).ours == 1


def test_a_place_that_is_not_counted_is_said_and_never_called_zero_attempts_alone() -> None:
    record, _ = fold(begin(NOW), reading(missing=("the engine's journal",)), NOW + timedelta(days=30))

    (warning,) = alerts(record, NOW)

    assert warning.code == "egress-uncounted"
    assert report(record).sentence == (
        "0 attempts of the appliance in 30 days, since 2026-11-24 12:00Z; not counted: the engine's journal"
    )
    assert record.longest_gap_s == 30 * 86_400
