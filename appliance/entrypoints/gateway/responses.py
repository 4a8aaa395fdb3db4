"""`/v1/responses`: OpenAI's Responses without their store."""

from __future__ import annotations

import json

from appliance.entrypoints.gateway.chat import OpenAiDialect
from appliance.entrypoints.gateway.dialect import Meter
from appliance.services.event_metering import EventMeter
from appliance.services.request_body import JudgedRequest
from appliance.services.responses import USUAL_EVENT, look_at_response_event, read_responses_request, tally_of_response


class ResponsesDialect(OpenAiDialect):
    """`dialect.Dialect` for responses."""

    path = "/v1/responses"
    judge = staticmethod(read_responses_request)
    tally_of = staticmethod(tally_of_response)

    def meter(self, judged: JudgedRequest) -> Meter:
        del judged  # counts come at the end, whatever was asked
        return EventMeter(look_at_response_event, usual=USUAL_EVENT)

    def broken_off(self, message: str, *, code: str) -> bytes:
        # Clients number events; what broke off has no number that anyone still waits for.
        event = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        return b"event: error\ndata: %b\n\n" % json.dumps(event).encode()
