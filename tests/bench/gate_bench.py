"""What quotas and turns cost a request, beside reading its body: CPU time in one run, minima.

python -m tests.bench.gate_bench
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from json import dumps

from appliance.domain.quotas import Quota, QuotaKind, Scope
from appliance.domain.usage import ApiKey
from appliance.services.admission import read_chat_request
from appliance.services.queueing import FairQueue, QueueLimits
from appliance.services.quotas import QuotaBook, estimate_tokens
from appliance.services.request_body import ChatLimits

REQUESTS = 5_000
ROUNDS = 7
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = ApiKey(
    key_id="key_1", name="n", team="t", prefix="lwd_", created_at=NOW, revoked_at=None, entity="e"
)  # fmt: skip
ASK = {"model": "m", "messages": [{"role": "user", "content": "word " * 400}], "max_tokens": 100}
BODY = dumps(ASK, separators=(",", ":")).encode()


def quotas(subjects: Iterable[tuple[Scope, str]]) -> list[Quota]:
    """Limit everything that can be limited of some subjects, far above what is used here."""
    return [
        Quota(scope=scope, subject=subject, kind=kind, amount=10**14, set_at=NOW)
        for scope, subject in subjects
        for kind in QuotaKind
    ]


def passing(held: list[Quota]) -> Callable[[int], None]:
    """Return what one request does at the gate."""
    book, queue = QuotaBook(), FairQueue(QueueLimits())
    book.install(held)

    def pass_one(number: int) -> None:
        reserve = estimate_tokens(BODY) if book.is_limiting else 0
        lease = book.admit(KEY, reserve=reserve, at=NOW + timedelta(milliseconds=number))
        turn = queue.enter(KEY.team, weight=4, size_bytes=len(BODY), wake=lambda: None)
        queue.leave(turn)
        lease.settle(120)

    return pass_one


def read_one(_: int) -> None:
    """Judge and rewrite the body, as the gateway does with each request."""
    read_chat_request(BODY, served_model="m", cache_salt="s", limits=ChatLimits())


def main() -> None:
    own = quotas([(Scope.KEY, KEY.key_id), (Scope.TEAM, KEY.team), (Scope.ENTITY, KEY.entity)])
    others = quotas((Scope.KEY, f"other_{number}") for number in range(1_000))
    cases = {
        "reading the body": read_one,
        "gate, no quota": passing([]),
        "gate, 21 quotas of this key, team and entity": passing(own),
        "gate, the same among 7,000 of others": passing(own + others),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(ROUNDS):
        for name, act in cases.items():
            began = time.process_time()
            for number in range(REQUESTS):
                act(number)
            best[name] = min(best[name], (time.process_time() - began) / REQUESTS)
    unit = best["reading the body"]
    for name, cost_s in best.items():
        sys.stdout.write(f"{name:<46} {cost_s * 1e6:6.1f} us of CPU  x {cost_s / unit:.2f}\n")


if __name__ == "__main__":
    main()
