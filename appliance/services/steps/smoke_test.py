"""Step `smoke-test`: one request as a tenant makes it, and its row in the ledger.

A key of the appliance's own is made for it and revoked after it, whatever happened. A run that was
killed leaves its key behind, whose secret nobody has; the next run revokes it first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.domain.errors import EngineNotReady, GatewayNotReady
from appliance.domain.operation import Actor
from appliance.domain.usage import UsageRecord, UsageState
from appliance.ports import GatewayAnswer, GatewayProbe, Slots, UsageReader
from appliance.services.keys import Keys
from appliance.services.steps import StepContext
from appliance.services.steps.provision import slot_to_serve
from bundles.release import EngineRelease

TEAM = "leeward"
KEY_NAME = "smoke test"
OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeLimits:
    """Times in seconds: how long the gateway may take to listen, to answer, and to settle."""

    listen_timeout_s: float = 60.0
    answer_timeout_s: float = 120.0
    settle_timeout_s: float = 15.0
    pause_s: float = 0.5


class SmokeTestStep:
    """Raises GatewayNotReady where the request or its record is not as it must be, Canceled."""

    def __init__(
        self,
        *,
        slots: Slots,
        keys: Keys,
        usage: Callable[[], UsageReader],
        gateway: GatewayProbe,
        limits: SmokeLimits | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._keys = keys
        self._usage = usage
        self._gateway = gateway
        self._limits = limits or SmokeLimits()
        self._sleep = sleep
        self._monotonic_s = monotonic_s

    def run(self, context: StepContext) -> str:
        """Ask, look into the ledger, clean up."""
        slot = slot_to_serve(self._slots)
        engine = self._slots.release(slot).engine
        if engine is None:
            raise EngineNotReady(detail=f"{slot} holds no engine.", remedy="Install a release, not evidence.")
        self._revoke_leftovers()
        known_rows, _ = self._usage().counts()
        key, secret = self._keys.create(name=KEY_NAME, team=TEAM, actor=Actor.appliance())
        try:
            answer = self._ask(secret, engine, context)
            record = self._settled(answer, after=known_rows, context=context)
        finally:
            self._keys.revoke(key.key_id, Actor.appliance())
        usage = record.usage
        return f"200 over TLS; ledger: {usage.prompt_tokens} prompt and {usage.completion_tokens} completion tokens"

    def _revoke_leftovers(self) -> None:
        for key in self._keys.list():
            if (key.team, key.name, key.revoked_at) == (TEAM, KEY_NAME, None):
                self._keys.revoke(key.key_id, Actor.appliance())

    def _ask(self, secret: str, engine: EngineRelease, context: StepContext) -> GatewayAnswer:
        question = engine.known_answer
        deadline_s = self._monotonic_s() + self._limits.listen_timeout_s
        while True:
            context.stop_if_canceled()
            try:
                answer = self._gateway.ask(
                    secret,
                    model=engine.served_model_name,
                    prompt=question.prompt,
                    max_tokens=question.max_tokens,
                    timeout_s=self._limits.answer_timeout_s,
                )
            except GatewayNotReady:
                if self._monotonic_s() >= deadline_s:
                    raise
                self._sleep(self._limits.pause_s)
            else:
                return answer

    def _settled(self, answer: GatewayAnswer, *, after: int, context: StepContext) -> UsageRecord:
        if answer.status != OK:
            raise _not_ready(f"The gateway answered the known question with HTTP {answer.status}.")
        deadline_s = self._monotonic_s() + self._limits.settle_timeout_s
        while True:
            context.stop_if_canceled()
            record = self._record(answer.request_id, after)
            if record is not None and record.state is UsageState.SETTLED:
                return record
            if self._monotonic_s() >= deadline_s:
                found = "no row" if record is None else f"a row in state {record.state}"
                raise _not_ready(f"Request {answer.request_id} was answered, but the ledger has {found} for it.")
            self._sleep(self._limits.pause_s)

    def _record(self, request_id: str, after: int) -> UsageRecord | None:
        """Find a row; row numbers only grow, so the new one lies beyond the number of those that were there."""
        while rows := self._usage().records(after):
            for row, record in rows:
                if record.request_id == request_id:
                    return record
                after = row
        return None


def _not_ready(detail: str) -> GatewayNotReady:
    return GatewayNotReady(
        detail=detail, remedy="Read `journalctl -u leeward-gateway` and `leeward health`, then run `leeward provision`."
    )
