"""Tables of usage: nothing runs in a spreadsheet, nothing is lost, and sums are sums."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.sheet import csv_line
from appliance.domain.usage import TokenUsage, UsageState
from appliance.services.tables import SUM_COLUMNS, USAGE_COLUMNS, UsageSums, json_line, usage_cells
from tests.unit.exports.twins import usage_record

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_text_comes_back_as_it_was_but_for_one_apostrophe_that_disarms_it(texts: list[str]) -> None:
    line = csv_line(tuple(texts))

    (read,) = csv.reader(io.StringIO(line, newline=""))

    for text, cell in zip(texts, read, strict=True):
        assert cell in {text, "'" + text}
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert line.endswith("\r\n")


@given(st.lists(st.integers() | st.none() | st.booleans(), min_size=2, max_size=5))
def test_numbers_are_never_changed_and_unknown_is_empty(cells: list[int | None]) -> None:
    (read,) = csv.reader(io.StringIO(csv_line(tuple(cells)), newline=""))

    words = {None: "", True: "true", False: "false"}
    expected = [words[cell] if cell is None or isinstance(cell, bool) else str(cell) for cell in cells]
    assert read == expected


@given(TEXTS)
def test_json_lines_hold_every_text_as_it_is_on_one_line(text: str) -> None:
    line = json_line(usage_cells(1, usage_record(1, team=text)))

    assert json.loads(line)["team"] == text
    assert line.count("\n") == 1
    assert line.isascii()


COUNTS = st.none() | st.integers(0, 10**6)
RECORDS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(list(UsageState)), COUNTS, COUNTS), max_size=30
)


@given(RECORDS)
def test_sums_are_the_sums_of_what_is_known_and_count_what_is_not(
    drawn: list[tuple[str, UsageState, int | None, int | None]],
) -> None:
    sums = UsageSums()
    for team, state, prompt, completion in drawn:
        usage = TokenUsage(prompt_tokens=prompt, completion_tokens=completion)
        sums.add(replace(usage_record(1, team=team), state=state, usage=usage))

    rows = [dict(zip(SUM_COLUMNS, row, strict=True)) for row in sums.rows()]

    assert sums.records == len(drawn)
    assert sum(int(row["requests"] or 0) for row in rows) == len(drawn)
    assert sum(int(row["completion_tokens"] or 0) for row in rows) == sum(c or 0 for *_, c in drawn)
    assert sum(int(row["requests_with_unknown_tokens"] or 0) for row in rows) == sum(
        p is None or c is None for _, _, p, c in drawn
    )
    assert [row["team"] for row in rows] == sorted({team for team, *_ in drawn})


def test_columns_and_cells_have_one_order() -> None:
    assert tuple(usage_cells(7, usage_record(1))) == USAGE_COLUMNS
