"""`/v1/chat/completions`: OpenAI's chat, as vLLM speaks it."""

from __future__ import annotations

from appliance.domain.usage import ApiKey
from appliance.entrypoints.gateway.answers import error_body, error_event
from appliance.entrypoints.gateway.dialect import EngineRequest
from appliance.entrypoints.gateway.salt import CacheSalt
from appliance.services.admission import read_chat_request
from appliance.services.metering import StreamMeter, tally_of_answer
from appliance.services.request_body import ChatLimits

PATH = "/v1/chat/completions"


class ChatDialect:
    """`dialect.Dialect` for chat."""

    path = PATH

    def __init__(self, *, served_model: str, limits: ChatLimits, salt: CacheSalt) -> None:
        self._served_model = served_model
        self._limits = limits
        self._salt = salt

    @property
    def body_bytes(self) -> int:
        return self._limits.body_bytes

    def read(self, body: bytes, key: ApiKey) -> EngineRequest:
        request = read_chat_request(
            body, served_model=self._served_model, cache_salt=self._salt.of(key.team), limits=self._limits
        )
        effort = request.reasoning_effort
        return EngineRequest(
            path=PATH,
            body=request.body,
            model=request.model,
            stream=request.stream,
            meter=lambda: StreamMeter(
                choices=request.choices,
                wants_usage=request.wants_usage,
                wants_continuous_usage=request.wants_continuous_usage,
            ),
            tally_of=tally_of_answer,
            headers=() if effort is None else ((b"x-leeward-reasoning-effort", effort.encode()),),
        )

    def error(self, status: int, message: str, *, code: str, param: str | None = None) -> bytes:
        return error_body(status, message, code=code, param=param)

    def broken_off(self, message: str, *, code: str) -> bytes:
        return error_event(message, code=code)
