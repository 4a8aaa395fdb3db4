"""Whatever way a stream is cut into reads, the caller's bytes and the counts are the same."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.domain.usage import UNKNOWN_USAGE, TokenUsage, UsageSource
from appliance.services.metering import MAX_EVENT_BYTES, StreamBroken, StreamMeter, Tally, tally_of_answer

USAGE = {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2}
TRICKY = [
    "plain",
    ',"usage":{"prompt_tokens":1}',
    '"choices":[]',
    "data: x\n\ndata: y",
    "\r\n\r\n",
    "}}",
    "é\u2028🐘",
    "[DONE]",
]


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def chunk(content: str, *, usage: dict[str, Any] | None, reason: str | None = None, index: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": "chatcmpl-1",
        "choices": [{"index": index, "delta": {"content": content}, "finish_reason": reason}],
    }
    return made if usage is None else made | {"usage": usage}


def run(pieces: list[bytes], *, usage: bool = False, continuous: bool = False, choices: int = 1) -> tuple[bytes, Tally]:
    meter = StreamMeter(choices=choices, wants_usage=usage, wants_continuous_usage=continuous)
    out = b"".join(meter.feed(piece) for piece in pieces) + meter.finish()
    return out, meter.tally


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes, bytes, int]:
    """Draw (engine's stream, caller's bytes without usage, caller's bytes with usage, tokens)."""
    newline = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    name = draw(st.sampled_from([b"data: ", b"data:"]))
    spaced = draw(st.booleans())
    usage_first = draw(st.booleans())
    sent, bare, asked = b"", b"", b""
    contents = draw(st.lists(st.sampled_from(TRICKY), max_size=5))

    def write(value: dict[str, Any]) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(", ", ": ")).encode() if spaced else compact(value)

    for number, content in enumerate(contents, start=1):
        if draw(st.booleans()):
            comment = b": ping" + newline + newline
            sent, bare, asked = sent + comment, bare + comment, asked + comment
        plain = chunk(content, usage=None, reason="stop" if number == len(contents) else None)
        counts = {"usage": USAGE | {"completion_tokens": number}}
        full = counts | plain if usage_first else plain | counts
        sent += name + write(full) + newline * 2
        bare += name + write(plain) + newline * 2
        asked += name + write(plain) + newline * 2
    final = (
        name + write({"id": "1", "choices": [], "usage": USAGE | {"completion_tokens": len(contents)}}) + newline * 2
    )
    done = name + b"[DONE]" + newline * 2
    return sent + final + done, bare + done, asked + final + done, len(contents)


@given(streams(), st.lists(st.integers(min_value=0), max_size=12))
def test_any_cutting_of_a_stream_gives_the_same_bytes_and_counts(
    stream: tuple[bytes, bytes, bytes, int], places: list[int]
) -> None:
    sent, bare, asked, tokens = stream

    without, tally = run(cut(sent, places))
    with_usage, _ = run(cut(sent, places), usage=True)
    untouched, _ = run(cut(sent, places), usage=True, continuous=True)

    assert without == bare
    assert with_usage == asked
    assert untouched == sent
    assert tally.usage == TokenUsage(prompt_tokens=7, completion_tokens=tokens)
    assert (tally.source, tally.done, tally.failed) == (UsageSource.FINAL, True, False)
    assert tally.finish_reason == ("stop" if tokens else None)


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=8))
@example(b"data: a\r\n\r\ndata: b\n\r\n\r\r\ndata", [9, 10, 11])
@example(b'data: {"usage":null}\n\n', [])
def test_bytes_that_are_no_usage_pass_as_they_are_however_cut(noise: bytes, places: list[int]) -> None:
    whole, _ = run([noise], usage=True, continuous=True)
    pieces, _ = run(cut(noise, places), usage=True, continuous=True)

    assert whole == pieces == noise


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
def test_every_single_cut_of_a_stream_gives_the_same_bytes(newline: bytes) -> None:
    final = {"choices": [], "usage": USAGE}
    chunks = [compact(chunk("x", usage=USAGE)), compact(final), b"[DONE]"]
    stream = b"".join(b": hi%b" % newline + b"data: " + one + newline * 2 for one in chunks)
    bare = compact(chunk("x", usage=None))
    expected = b"".join(b": hi%b" % newline + b"data: " + one + newline * 2 for one in (bare, b"[DONE]"))

    for place in range(len(stream) + 1):
        assert run([stream[:place], stream[place:]])[0] == expected, place
    assert run([stream[i : i + 1] for i in range(len(stream))])[0] == expected


def test_running_counts_are_known_before_the_end() -> None:
    stream = b"data: " + compact(chunk("a", usage=USAGE)) + b"\n\n"

    out, tally = run([stream])

    assert (tally.usage.completion_tokens, tally.source) == (2, UsageSource.CONTINUOUS)
    assert (tally.done, tally.has_tokens) == (False, True)
    assert tally.usage.cached_tokens is None
    assert out == b"data: " + compact(chunk("a", usage=None)) + b"\n\n"


def test_running_counts_of_several_choices_are_added_and_the_prompt_counted_once() -> None:
    events = [(0, 3), (1, 5), (0, 4)]
    stream = b"".join(
        b"data: " + compact(chunk("a", usage=USAGE | {"completion_tokens": n}, index=i)) + b"\n\n" for i, n in events
    )

    _, tally = run([stream], choices=2)

    assert tally.usage == TokenUsage(prompt_tokens=7, completion_tokens=9)
    assert tally.source is UsageSource.CONTINUOUS


def test_an_error_in_the_stream_is_seen_and_done_does_not_undo_it() -> None:
    stream = b'data: {"error":{"message":"x","code":500}}\n\ndata: [DONE]\n\n'

    out, tally = run([stream])

    assert out == stream
    assert (tally.failed, tally.done, tally.source) == (True, True, UsageSource.NONE)


def test_an_event_over_several_data_lines_is_one_chunk() -> None:
    lines = json.dumps(chunk("a", usage=USAGE), indent=1).split("\n")
    stream = b"".join(b"data: " + line.encode() + b"\n" for line in lines) + b"\n"

    out, tally = run([stream])

    payload = "\n".join(line.removeprefix("data: ") for line in out.decode().strip().split("\n"))
    assert json.loads(payload) == chunk("a", usage=None)
    assert tally.usage.completion_tokens == 2


def test_usage_deeper_in_a_lastis_left_alone() -> None:
    stream = b'data: {"choices":[{"delta":{"x":1,"usage":{"prompt_tokens":99}}}]}\n\n'

    out, tally = run([stream])

    assert out == stream
    assert tally.usage == UNKNOWN_USAGE


@pytest.mark.parametrize("count", [-1, True, 1.5, "7", 2**60, None])
def test_a_count_that_is_no_count_is_unknown(count: object) -> None:
    _, tally = run(
        [b"data: " + compact({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": count}}) + b"\n\n"]
    )

    assert tally.usage == TokenUsage(prompt_tokens=3, completion_tokens=None)


def test_an_event_without_end_is_given_up_on() -> None:
    meter = StreamMeter(choices=1, wants_usage=False, wants_continuous_usage=False)

    for _ in range(MAX_EVENT_BYTES // 2**20):
        assert meter.feed(b"x" * 2**20) == b""
    with pytest.raises(StreamBroken):
        meter.feed(b"x")


def test_a_whole_answer_gives_its_counts_and_an_odd_one_gives_none() -> None:
    answer = {"choices": [{"finish_reason": "length"}], "usage": USAGE | {"prompt_tokens_details": None}}

    tally, odd = tally_of_answer(compact(answer)), tally_of_answer(b"<html>")

    assert (tally.usage.completion_tokens, tally.finish_reason, tally.source) == (2, "length", UsageSource.FINAL)
    assert (odd.usage, odd.source, odd.done) == (UNKNOWN_USAGE, UsageSource.NONE, False)
