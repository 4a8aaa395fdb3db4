"""`/v1/messages` and its `count_tokens`: Anthropic's way to chat."""

from __future__ import annotations

import json
from typing import Any

from appliance.domain.usage import ApiKey, TokenUsage, UsageSource
from appliance.entrypoints.gateway.dialect import EngineRequest, ServedDialect, effort_header
from appliance.services.event_metering import EventMeter
from appliance.services.messages import (
    USUAL_EVENT,
    look_at_message_event,
    read_count_request,
    read_messages_request,
    tally_of_message,
)
from appliance.services.metering import Tally

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

    def read(self, body: bytes, key: ApiKey) -> EngineRequest:
        request = read_messages_request(
            body, served_model=self._served_model, cache_salt=self._salt.of(key.team), limits=self._limits
        )
        return EngineRequest(
            path=self.path,
            body=request.body,
            model=self._served_model,
            stream=request.stream,
            meter=_meter,
            tally_of=tally_of_message,
            headers=effort_header(request.reasoning_effort),
        )

    def error(self, status: int, message: str, *, code: str, param: str | None = None) -> bytes:
        del code, param  # Anthropic's error object has no place for them; the message names the field
        return json.dumps(error_object(status, message)).encode()

    def refused(self, status: int, body: bytes) -> bytes:
        return json.dumps(error_object(status, _message_of(body))).encode()

    def broken_off(self, message: str, *, code: str) -> bytes:
        return b"event: error\ndata: %b\n\n" % self.error(502, message, code=code)


class CountDialect(MessagesDialect):
    """`dialect.Dialect` for the count of a prompt's tokens; the model is not asked, so it costs none."""

    path = "/v1/messages/count_tokens"

    def read(self, body: bytes, key: ApiKey) -> EngineRequest:
        del key
        return EngineRequest(
            path=self.path,
            body=read_count_request(body, served_model=self._served_model, limits=self._limits),
            model=self._served_model,
            stream=False,
            meter=_meter,
            tally_of=_no_tokens,
        )


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


def _meter() -> EventMeter:
    return EventMeter(look_at_message_event, usual=USUAL_EVENT)


def _no_tokens(_: bytes) -> Tally:
    return Tally(counts=TokenUsage(prompt_tokens=0, completion_tokens=0), source=UsageSource.FINAL, done=True)
