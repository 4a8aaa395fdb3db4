"""A stream of named events passes as it is, however it was cut, and its counts are found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.usage import TokenUsage, UsageSource
from appliance.entrypoints.gateway.chat import with_both_names
from appliance.services import messages, responses
from appliance.services.event_metering import EventMeter, EventTally
from appliance.services.metering import MAX_EVENT_BYTES, StreamBroken
from tests.api.gateway.played_engine import recorded

Look = Callable[[dict[str, Any], EventTally], None]
MESSAGES = (messages.look_at_message_event, messages.USUAL_EVENT)
RESPONSES = (responses.look_at_response_event, responses.USUAL_EVENT)


def meter(kind: tuple[Look, bytes]) -> EventMeter:
    return EventMeter(kind[0], usual=kind[1])


@pytest.mark.parametrize(("name", "kind"), [("messages", MESSAGES), ("responses", RESPONSES)])
@given(cuts=st.lists(st.integers(0, 6_000), max_size=12).map(sorted))
def test_what_is_passed_and_counted_does_not_depend_on_how_the_stream_was_cut(
    name: str, kind: tuple[Look, bytes], cuts: list[int]
) -> None:
    stream = recorded(f"{name}.sse")
    whole, cut = meter(kind), meter(kind)

    expected = whole.feed(stream) + whole.finish()
    pieces = [cut.feed(stream[start:end]) for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert b"".join(pieces) + cut.finish() == expected == stream
    assert cut.tally == whole.tally
    assert whole.tally.done
    assert not whole.tally.failed
    assert whole.tally.source is UsageSource.FINAL


def test_each_dialects_last_counts_and_reason_are_read() -> None:
    message, response = meter(MESSAGES), meter(RESPONSES)
    message.feed(recorded("messages.sse"))
    response.feed(recorded("responses.sse"))

    assert message.tally.usage == TokenUsage(prompt_tokens=20, completion_tokens=40, cached_tokens=0)
    assert message.tally.finish_reason == "end_turn"
    assert response.tally.usage.completion_tokens == 12
    assert response.tally.finish_reason == "max_output_tokens"


def test_tokens_that_a_cache_gave_or_took_are_part_of_the_prompt() -> None:
    usage = b'{"input_tokens":5,"output_tokens":1,"cache_read_input_tokens":128,"cache_creation_input_tokens":7}'

    tally = messages.tally_of_message(b'{"stop_reason":"end_turn","usage":%b}' % usage)

    assert tally.usage == TokenUsage(prompt_tokens=140, completion_tokens=1, cached_tokens=128)


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (MESSAGES, b'event: error\ndata: {"type":"error","error":{"type":"internal_error","message":"boom"}}\n\n'),
        (RESPONSES, b'event: response.failed\ndata: {"type":"response.failed","response":{"usage":null}}\n\n'),
        (RESPONSES, b'data: {"error":{"message":"boom"}}\n\n'),
    ],
)
def test_an_error_in_a_stream_is_no_success(kind: tuple[Look, bytes], event: bytes) -> None:
    broken = meter(kind)

    assert broken.feed(event) == event
    assert broken.tally.failed
    assert broken.tally.source is UsageSource.NONE


def test_an_event_without_end_is_not_kept_for_ever() -> None:
    endless = meter(MESSAGES)
    with pytest.raises(StreamBroken):
        endless.feed(b"data: " + b"x" * (MAX_EVENT_BYTES + 1))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"usage":1}', b'{"usage":{"input_tokens":-1}}', b"null"])
def test_an_answer_without_counts_stays_unknown(body: bytes) -> None:
    for tally in (messages.tally_of_message(body), responses.tally_of_response(body)):
        assert tally.usage == TokenUsage(prompt_tokens=None, completion_tokens=None)


@given(thought=st.text(), answer=st.text())
def test_reasoning_is_told_under_both_names_whatever_is_in_it(thought: str, answer: str) -> None:

    tricky = answer + '"reasoning":"x"'
    chunk = {"choices": [{"delta": {"content": tricky, "reasoning": thought}}]}

    said = json.loads(with_both_names(json.dumps(chunk, separators=(",", ":")).encode()))

    delta = said["choices"][0]["delta"]
    assert delta == {"content": tricky, "reasoning": thought, "reasoning_content": thought}


def test_an_answer_without_reasoning_is_the_very_same_bytes() -> None:
    plain = b'{"choices":[{"delta":{"content":"\\"reasoning\\":\\"x\\""}}],"reasoning":null}'

    assert with_both_names(plain) is plain
