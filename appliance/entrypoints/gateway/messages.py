"""`/v1/messages` and its `count_tokens`: Anthropic's way to chat."""

from __future__ import annotations

import json
from typing import Any

from appliance.domain.usage import TokenUsage, UsageSource
from appliance.entrypoints.gateway.dialect import Meter, ServedDialect
from appliance.services.event_metering import EventMeter
from appliance.services.messages import (
    USUAL_EVENT,
    look_at_message_event,
    read_count_request,
    read_messages_request,
    tally_of_message,
)
from appliance.services.metering import Tally
from appliance.services.request_body import JudgedRequest

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class MessagesDialect(ServedDialect):
    """`dialect.Dialect` for messages."""

    path = "/v1/messages"
    judge = staticmethod(read_messages_request)
    tally_of = staticmethod(tally_of_message)

    def meter(self, judged: JudgedRequest) -> Meter:
        del judged  # counts come as they come, whatever was asked
        return EventMeter(look_at_message_event, usual=USUAL_EVENT)

    def error(self, status: int, message: str, *, code: str, param: str | None = None) -> bytes:
        del code, param  # Anthropic's error object has no place for them; the message names the field
        return json.dumps(error_object(status, message)).encode()

    def refused(self, status: int, body: bytes) -> bytes:
        return json.dumps(error_object(status, _message_of(body))).encode()

    def broken_off(self, message: str, *, code: str) -> bytes:
        return b"event: error\ndata: %b\n\n" % self.error(502, message, code=code)


def no_tokens(body: bytes) -> Tally:
    """Say that nothing was spent."""
    del body
    return Tally(counts=TokenUsage(prompt_tokens=0, completion_tokens=0), source=UsageSource.FINAL, done=True)


class CountDialect(MessagesDialect):
    """`dialect.Dialect` for the count of a prompt's tokens; the model is not asked, so it costs none."""

    path = "/v1/messages/count_tokens"
    judge = staticmethod(read_count_request)
    tally_of = staticmethod(no_tokens)


def error_object(status: int, message: str) -> dict[str, Any]:
    """Return Anthropic's error object."""
    return {"type": "error", "error": {"type": _TYPES.get(status, "api_error"), "message": message}}


def _message_of(body: bytes) -> str:
    """Return what the engine said: in OpenAI's shape, or in Anthropic's with types of its own."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "The engine refused this request."
