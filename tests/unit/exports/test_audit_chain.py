"""The audit log's chain: any edit, removal, insertion or move is found, and an honest log holds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.audit import (
    GENESIS,
    AuditEntry,
    first_broken,
    follow,
    follow_lines,
    from_line,
    link,
    to_line,
)

WORDS = st.text(max_size=20)
ACTS = st.lists(st.tuples(WORDS, WORDS, WORDS, st.dictionaries(WORDS, WORDS, max_size=3)), min_size=1, max_size=12)


def chain(acts: list[tuple[str, str, str, dict[str, str]]]) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number, (actor, action, object_, details) in enumerate(acts, start=1):
        entry = link(
            seq=number,
            at=datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=number),
            actor=actor,
            action=action,
            object_=object_,
            outcome="succeeded",
            details=details,
            previous_hash=entries[-1].entry_hash if entries else GENESIS,
        )
        entries.append(entry)
    return entries


@given(ACTS)
def test_an_honest_log_holds_and_survives_export(acts: list[Any]) -> None:
    entries = chain(acts)
    lines = [to_line(entry) for entry in entries]

    assert first_broken(entries) is None
    assert follow(entries).head == entries[-1].entry_hash
    assert [from_line(line) for line in lines] == entries
    assert all(line.isascii() and "\n" not in line for line in lines)
    assert follow_lines(lines, expected_head=entries[-1].entry_hash).holds


@given(ACTS, st.data())
def test_any_edit_is_found_at_the_edited_entry(acts: list[Any], data: st.DataObject) -> None:
    entries = chain(acts)
    place = data.draw(st.integers(0, len(entries) - 1))
    field = data.draw(st.sampled_from(["actor", "action", "object", "outcome", "at", "details"]))
    changes: dict[str, Any] = {
        "at": entries[place].at + timedelta(microseconds=1),
        "details": {**entries[place].details, "added": "x" * 30},
    }
    new = changes.get(field, f"{getattr(entries[place], field)}!")
    entries[place] = replace(entries[place], **{field: new})

    assert first_broken(entries) == place + 1
    assert follow(entries).broken_at == place + 1
    assert follow_lines(map(to_line, entries)).broken_at == place + 1


@given(ACTS, st.data())
def test_any_removal_but_of_the_end_is_found(acts: list[Any], data: st.DataObject) -> None:
    entries = chain([*acts, ("last", "", "", {})])
    place = data.draw(st.integers(0, len(entries) - 2))
    del entries[place]

    assert follow(entries).broken_at == place + 1


@given(ACTS)
def test_a_cut_end_is_found_by_whoever_kept_the_head(acts: list[Any]) -> None:
    entries = chain([*acts, ("last", "", "", {})])
    head = entries.pop().entry_hash
    lines = [to_line(entry) for entry in entries]

    assert follow_lines(lines).holds
    cut = follow_lines(lines, expected_head=head)
    assert (cut.broken_at, cut.entries) == (len(entries) + 1, len(entries))


@given(ACTS, st.data())
def test_any_exchange_of_two_entries_is_found_at_the_first(acts: list[Any], data: st.DataObject) -> None:
    entries = chain([*acts, ("last", "", "", {})])
    one, other = sorted(data.draw(st.sets(st.integers(0, len(entries) - 1), min_size=2, max_size=2)))
    entries[one], entries[other] = entries[other], entries[one]

    assert follow(entries).broken_at == one + 1


@given(ACTS, st.data())
def test_an_inserted_entry_is_found_even_with_a_right_hash(acts: list[Any], data: st.DataObject) -> None:
    entries = chain(acts)
    place = data.draw(st.integers(0, len(entries) - 1))
    forged = link(
        seq=place + 1,
        at=entries[place].at,
        actor="eve",
        action="",
        object_="",
        outcome="",
        details={"forged": "yes" * 20},
        previous_hash=entries[place].previous_hash,
    )
    entries.insert(place, forged)

    assert follow(entries).broken_at == place + 2


@given(ACTS, st.data())
def test_rehashing_one_entry_moves_the_break_to_the_next(acts: list[Any], data: st.DataObject) -> None:
    entries = chain([*acts, ("last", "", "", {})])
    place = data.draw(st.integers(0, len(entries) - 2))
    old = entries[place]
    entries[place] = link(
        seq=old.seq,
        at=old.at,
        actor="eve" * 10,
        action=old.action,
        object_=old.object,
        outcome=old.outcome,
        details=old.details,
        previous_hash=old.previous_hash,
    )

    assert follow(entries).broken_at == place + 2


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        "{}",
        "{",
        "0" * 10,
        '{"seq":1}',
        "\u0000",
    ],
)
def test_a_line_that_is_no_entry_is_a_break_and_not_a_crash(line: str) -> None:
    (good,) = chain([("a", "b", "c", {})])

    found = follow_lines([to_line(good), line])

    assert (found.entries, found.broken_at) == (1, 2)
    assert "line 2" in found.reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq", True),
        ("seq", "1"),
        ("seq", 1.0),
        ("at", 5),
        ("at", "yesterday"),
        ("details", []),
        ("details", {"a": 1}),
        ("previous_hash", None),
        ("previous_hash", "zz"),
        ("actor", 7),
    ],
)
def test_a_field_of_the_wrong_kind_is_a_break_and_not_a_crash(field: str, value: object) -> None:
    (good,) = chain([("a", "b", "c", {})])
    plain = {**json.loads(to_line(good)), field: value}

    found = follow_lines([json.dumps(plain)])

    assert (found.entries, found.broken_at) == (0, 1)


def test_an_empty_log_holds_and_has_the_head_of_nothing() -> None:
    found = follow_lines([])

    assert (found.holds, found.entries, found.head) == (True, 0, GENESIS)
