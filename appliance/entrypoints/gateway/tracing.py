"""Where a request's time went, and the line in the log about one that took long.

Times are the event loop's, in seconds; 0 is "did not come so far". No line holds text of a request
or an answer. Spans are not sent anywhere: the node has no way out (docs/observability.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from appliance.domain.usage import Admission, Settlement

log = structlog.get_logger()


@dataclass(slots=True)
class Phases:
    """When a request came to which point. A value that grows, owned by one request."""

    arrived: float
    judged: float = 0.0  # its body was read and found good
    granted: float = 0.0  # it was its turn
    admitted: float = 0.0  # its admission was durable
    asked: float = 0.0  # the engine had it
    answered: float = 0.0  # the engine's answer began
    first_token: float = 0.0
    ended: float = 0.0  # its record was closed
    engine: str | None = None  # which one had it

    def spans(self) -> dict[str, float]:
        """Return how long each phase took that was begun, in seconds; the last one reached goes on to the end."""
        points = (
            ("read_s", self.arrived),
            ("queue_s", self.judged),
            ("admission_s", self.granted),
            ("connect_s", self.admitted),
            ("engine_first_byte_s", self.asked),
            ("engine_first_token_s" if self.first_token else "answer_s", self.answered),
            ("answer_s", self.first_token),
        )
        begun = [(name, at) for name, at in points if at]
        ends = [*(at for _, at in begun[1:]), self.ended]
        return {name: round(end - at, 4) for (name, at), end in zip(begun, ends, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLimits:
    """From when on a request is slow, in seconds: until a stream's first token, and until any answer's end."""

    start_s: float = 10.0
    whole_s: float = 120.0


class SlowLog:
    """Says which requests were slow, and in which phase."""

    def __init__(self, limits: SlowLimits) -> None:
        self._limits = limits

    def look(self, admission: Admission, settlement: Settlement, phases: Phases) -> None:
        """Say so if a request was slow; called once, when its record is closed."""
        limits, arrived = self._limits, phases.arrived
        began = phases.first_token or phases.ended  # an answer that is not a stream begins when it is whole
        is_late = admission.stream and began - arrived >= limits.start_s
        if not is_late and phases.ended - arrived < limits.whole_s:
            return
        log.warning(
            "request_slow",
            request_id=admission.request_id,
            caller_request_id=admission.caller_request_id,
            key_id=admission.key_id,
            team=admission.team,
            engine=phases.engine,
            endpoint=admission.endpoint,
            stream=admission.stream,
            outcome=settlement.outcome.value,
            prompt_tokens=settlement.usage.prompt_tokens,
            completion_tokens=settlement.usage.completion_tokens,
            duration_s=round(phases.ended - phases.arrived, 4),
            **phases.spans(),
        )
