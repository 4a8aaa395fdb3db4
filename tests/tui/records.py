"""Fixed records of a node: who used it and how much, what it was measured to do, how it is hardened."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from appliance.domain import posture
from appliance.domain.acceptance import (
    SCHEMA,
    BurnInResult,
    Diagnosis,
    Figure,
    GpuStress,
    Passport,
    PassportView,
    Prediction,
    views,
)
from appliance.domain.costs import Price, PriceBook, cost_report
from appliance.domain.egress import Attempt, EgressReport
from appliance.domain.errors import NotFound
from appliance.domain.posture import Observation, PostureFinding
from appliance.domain.quotas import Quota, QuotaKind, QuotaUse, Scope
from appliance.domain.tenancy import HolderKind, Priority, Team
from appliance.domain.usage import ApiKey, IssuedKey
from appliance.domain.usage_report import UsageSum
from appliance.resources import posture_table
from bundles.release import Device
from tests.support.fake_daemon import FakeDaemon

MODEL = "mistral-medium-3.5"
SECRET = "lw-7Qm2xZ-this-is-seen-once"  # noqa: S105  no key of any node
BOUGHT = datetime(2026, 11, 23, tzinfo=UTC).date()


def used(*group: str, requests: int, tokens: int, admitted: int = 0, unknown: int = 0) -> UsageSum:
    completion = tokens // 9
    return UsageSum(
        group=group, requests=requests, settled=requests - admitted - unknown, partial=unknown, abandoned=0,
        admitted=admitted, prompt_tokens=tokens - completion, completion_tokens=completion,
        cached_tokens=tokens // 3, reasoning_tokens=0, requests_with_unknown_tokens=unknown,
    )  # fmt: skip


def by_day(at: datetime) -> tuple[UsageSum, ...]:
    """Every day up to `at` but the Sundays."""
    days = [at.replace(day=day) for day in range(1, at.day + 1)]
    return tuple(
        used(f"{day:%Y-%m-%d}", requests=400 + 90 * (day.day % 7), tokens=2_100_000 + 900_000 * (day.day % 7),
             admitted=2 if day.day == at.day else 0)
        for day in days if day.weekday() < 6
    )  # fmt: skip


TEAMS = (
    used("etl", requests=9_120, tokens=61_200_400, admitted=2),
    used("helpdesk", requests=4_410, tokens=20_114_007, unknown=3),
    used("research", requests=311, tokens=9_004_120),
)
MODELS = (
    used(MODEL, requests=13_000, tokens=88_000_000, admitted=2, unknown=3),
    used("tiny-medium", requests=841, tokens=2_318_527),
)


def sums(request: web.Request, at: datetime) -> tuple[UsageSum, ...]:
    if request.query["since"] < f"{at:%Y-%m}":
        return ()
    return {"day": by_day(at), "team": TEAMS, "model": MODELS}[request.query["by"]]


def costs(request: web.Request, at: datetime) -> object:
    price = Price(model=MODEL, input=Decimal("1.5"), output=Decimal("7.5"), cached_input=None, source="the price list",
                  seen_on=BOUGHT)  # fmt: skip
    lines = [
        replace(TEAMS[0], group=(f"{at:%Y-%m}", "etl", MODEL)),
        replace(TEAMS[1], group=(f"{at:%Y-%m}", "helpdesk", MODEL)),
        replace(TEAMS[2], group=(f"{at:%Y-%m}", "research", "tiny-medium")),
    ]
    past = request.query["since"] < f"{at:%Y-%m}"
    report = cost_report([] if past else lines, PriceBook(currency="USD", prices=(price,), node=None))
    return replace(report, node_per_month=Decimal("9870.00"))


def keys(at: datetime) -> list[ApiKey]:
    def key(number: int, name: str, team: str, **terms: Any) -> ApiKey:  # noqa: ANN401  any of the key's fields
        return ApiKey(
            key_id=f"k{number:04}", name=name, team=team, prefix=f"lw-{number:04}",
            created_at=at - timedelta(days=40 - number), **{"revoked_at": None, **terms},
        )  # fmt: skip

    return [
        key(1, "nightly-batch", "etl", holder="airflow", holder_kind=HolderKind.PROGRAM, priority=Priority.BATCH),
        key(2, "old-batch", "etl", revoked_at=at - timedelta(days=9)),
        key(3, "chat", "helpdesk", holder="m.roy", holder_kind=HolderKind.PERSON, expires_at=at + timedelta(days=5)),
        key(4, "notebooks", "research", models=(MODEL,), networks=("10.1.0.0/16",)),
    ]


def quotas(at: datetime) -> list[QuotaUse]:
    def use(scope: Scope, subject: str, kind: QuotaKind, amount: int, count: int | None) -> QuotaUse:
        quota = Quota(scope=scope, subject=subject, kind=kind, amount=amount, set_at=at - timedelta(days=30))
        resets_at = None if kind.period is None else kind.period.end(at)
        return QuotaUse(quota=quota, used=count, resets_at=resets_at)

    return [
        use(Scope.TEAM, "etl", QuotaKind.TOKENS_PER_DAY, 8_000_000, 5_700_000),
        use(Scope.TEAM, "etl", QuotaKind.CONCURRENCY, 16, None),
        use(Scope.TEAM, "helpdesk", QuotaKind.REQUESTS_PER_DAY, 600, 600),
        use(Scope.KEY, "k0003", QuotaKind.TOKENS_PER_MINUTE, 50_000, 44_000),
        use(Scope.ENTITY, "ACME SA", QuotaKind.TOKENS_PER_MONTH, 500_000_000, 90_318_527),
    ]


def passport(number: int, at: datetime, *, slot: str, rate: float, device: Device = Device.CUDA) -> Passport:
    on_gpu = device is Device.CUDA
    names = ("NVIDIA H200",) * 4 if on_gpu else ("CPU",)
    memory = tuple(
        Figure(name="memory", subject=f"GPU {place}" if on_gpu else "CPU", unit="GB/s",
               value=4_100.0 if on_gpu else 9.0, spread=0.01, samples=20)
        for place in range(len(names))
    )  # fmt: skip
    engine = (
        Figure(name="throughput", subject="1 client", unit="tokens/s", value=rate, spread=0.02, samples=12),
        Figure(name="kv-cache", subject="engine", unit="tokens", value=1_204_000.0, spread=0.0, samples=1),
    )
    return Passport(
        schema=SCHEMA, id=f"019ab3f2-7c41-7d10-8a55-{number:012}", node="llm01", slot=slot, engine_version="0.16.2",
        measured_at=at, notice="" if on_gpu else "CPU, NO GPU MEASURED.", driver="580.95.05" if on_gpu else None,
        burn_in=BurnInResult(
            device=device, torch="2.9.1", devices=names, figures=memory, wrong=(), duration_s=600,
            stress=(GpuStress(index=0, temperature_c=78, power_w=690.0, clocks_event_reasons=()),) if on_gpu else (),
            diagnosis=Diagnosis(program="dcgmi diag", level=1, passed=True, failures=()) if on_gpu else None,
        ),
        predicted=(
            Prediction(name="kv-cache", unit="tokens", value=1_210_000.0, basis="room on four GPUs"),
            Prediction(name="throughput", unit="tokens/s", value=120.0, basis="memory bandwidth ÷ weights"),
        ),
        engine=engine, below_band=(),
    )  # fmt: skip


def passports(at: datetime) -> tuple[PassportView, ...]:
    return views((
        passport(1, at - timedelta(days=60), slot="26.9.0-e1", rate=104.0),
        passport(2, at - timedelta(days=2), slot="26.11.0-e1", rate=83.0),
        passport(3, at - timedelta(days=90), slot="26.8.0-e1", rate=2.0, device=Device.CPU),
    ))  # fmt: skip


def findings() -> tuple[PostureFinding, ...]:
    """Every item of the real table: most are met, one is not, one could not be seen, exceptions are unmet."""
    odd = {"engine-sandbox": Observation(is_met=False, observed="exposure 3.1"),
           "gateway-sandbox": Observation(is_met=None, observed="systemd-analyze gave nothing")}  # fmt: skip
    met, unmet = Observation(is_met=True, observed="as demanded"), Observation(is_met=False, observed="not so")
    items = posture.items_from_toml(posture_table())
    return tuple(posture.judge(i, odd.get(i.id, unmet if i.exception else met)) for i in items)


def egress(at: datetime) -> EgressReport:
    attempt = Attempt(account="www-data", protocol="udp", destination="192.0.2.7:53", count=4,
                      first_at=at - timedelta(days=3), last_at=at - timedelta(hours=2))  # fmt: skip
    return EgressReport(since=at - timedelta(days=41), until=at, longest_gap_s=15.0, ours=0, others=4,
                        attempts=(attempt,), missing=())  # fmt: skip


def keep_records(daemon: FakeDaemon, at: datetime) -> None:
    """Let a daemon answer for these records, and change the keys as it is asked to."""
    kept = keys(at)
    teams = [Team(team="etl", entity="ACME SA", priority=Priority.BATCH, set_at=at),
             Team(team="helpdesk", entity="ACME SA", priority=Priority.INTERACTIVE, set_at=at)]  # fmt: skip

    def create(_: web.Request, body: dict[str, Any]) -> IssuedKey:
        made = ApiKey(key_id="k0005", name=body["name"], team=body["team"], prefix="lw-7Qm2", created_at=at,
                      revoked_at=None)  # fmt: skip
        kept.append(made)
        return IssuedKey(key=made, secret=SECRET)

    def revoke(request: web.Request, _: object) -> None:
        key_id = request.path.rpartition("/")[2]
        place = next((place for place, key in enumerate(kept) if key.key_id == key_id), None)
        if place is None:
            raise NotFound(detail=f"No key {key_id}.", remedy="Run `leeward key list`.")
        kept[place] = replace(kept[place], revoked_at=at)

    def nothing(_: web.Request, __: object) -> None:
        """Agree, and give nothing back."""

    daemon.answers |= {
        ("GET", "/v1/usage/sums"): lambda request, _: sums(request, at),
        ("GET", "/v1/costs"): lambda request, _: costs(request, at),
        ("GET", "/v1/keys"): lambda _, __: list(kept),
        ("POST", "/v1/keys"): create,
        ("DELETE", "/v1/keys/"): revoke,
        ("GET", "/v1/teams"): lambda _, __: teams,
        ("PUT", "/v1/teams/"): lambda _, body: replace(teams[0], priority=Priority(body["priority"])),
        ("GET", "/v1/quotas"): lambda _, __: quotas(at),
        ("PUT", "/v1/quotas"): nothing,
        ("GET", "/v1/passports"): lambda _, __: passports(at),
        ("GET", "/v1/posture"): lambda _, __: findings(),
        ("GET", "/v1/egress"): lambda _, __: egress(at),
    }
