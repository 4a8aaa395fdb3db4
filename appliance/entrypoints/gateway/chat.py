"""`/v1/chat/completions` and `/v1/completions`: OpenAI's chat and completions, as vLLM speaks them.

vLLM says what the model thought as `reasoning`. Many clients look for `reasoning_content`, so both
are told.
"""

from __future__ import annotations

import re

from appliance.entrypoints.gateway.answers import error_body, error_event
from appliance.entrypoints.gateway.dialect import Meter, ServedDialect
from appliance.services.admission import read_chat_request
from appliance.services.completions import read_completion_request
from appliance.services.metering import StreamMeter, Tally, tally_of_answer
from appliance.services.request_body import JudgedRequest

_REASONING = b'"reasoning":"'
_MEMBER = re.compile(rb'"reasoning":("(?:[^"\\]|\\.)*+")')


class OpenAiDialect(ServedDialect):
    """How OpenAI's dialects tell errors."""

    def error(self, status: int, message: str, *, code: str, param: str | None = None) -> bytes:
        return error_body(status, message, code=code, param=param)

    def refused(self, status: int, body: bytes) -> bytes:
        del status  # vLLM's error object is OpenAI's
        return body

    def broken_off(self, message: str, *, code: str) -> bytes:
        return error_event(message, code=code)


class CompletionDialect(OpenAiDialect):
    """`dialect.Dialect` for completions."""

    path = "/v1/completions"
    judge = staticmethod(read_completion_request)
    tally_of = staticmethod(tally_of_answer)

    def meter(self, judged: JudgedRequest) -> Meter:
        return StreamMeter(
            choices=judged.choices,
            wants_usage=judged.wants_usage,
            wants_continuous_usage=judged.wants_continuous_usage,
        )


class ChatDialect(CompletionDialect):
    """`dialect.Dialect` for chat."""

    path = "/v1/chat/completions"
    judge = staticmethod(read_chat_request)

    def meter(self, judged: JudgedRequest) -> Meter:
        return ReasoningMeter(super().meter(judged))

    def told(self, answer: bytes) -> bytes:
        return with_both_names(answer)


class ReasoningMeter:
    """`dialect.Meter` that gives what another meter gives, with both names of the reasoning."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.tally: Tally = meter.tally

    def feed(self, received: bytes) -> bytes:
        """Take bytes of the engine, return whole events for the caller. Raises StreamBroken."""
        out = self._meter.feed(received)
        return with_both_names(out) if _REASONING in out else out

    def finish(self) -> bytes:
        """Take the end of the engine's stream."""
        return with_both_names(self._meter.finish())


def with_both_names(answer: bytes) -> bytes:
    """Say reasoning as `reasoning_content` too.

    A quotation mark inside a JSON string is escaped, so what is found can only be a member.
    """
    if _REASONING not in answer:
        return answer
    return _MEMBER.sub(rb'\g<0>,"reasoning_content":\1', answer)
