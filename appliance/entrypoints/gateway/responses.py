"""`/v1/responses`: OpenAI's Responses without their store."""

from __future__ import annotations

import json

from appliance.domain.usage import ApiKey
from appliance.entrypoints.gateway.chat import OpenAiDialect
from appliance.entrypoints.gateway.dialect import EngineRequest, effort_header
from appliance.services.event_metering import EventMeter
from appliance.services.responses import USUAL_EVENT, look_at_response_event, read_responses_request, tally_of_response


class ResponsesDialect(OpenAiDialect):
    """`dialect.Dialect` for responses."""

    path = "/v1/responses"

    def read(self, body: bytes, key: ApiKey) -> EngineRequest:
        request = read_responses_request(
            body, served_model=self._served_model, cache_salt=self._salt.of(key.team), limits=self._limits
        )
        return EngineRequest(
            path=self.path,
            body=request.body,
            model=self._served_model,
            stream=request.stream,
            meter=lambda: EventMeter(look_at_response_event, usual=USUAL_EVENT),
            tally_of=tally_of_response,
            headers=effort_header(request.reasoning_effort),
        )

    def broken_off(self, message: str, *, code: str) -> bytes:
        # Clients number events; what broke off has no number that anyone still waits for.
        event = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        return b"event: error\ndata: %b\n\n" % json.dumps(event).encode()
