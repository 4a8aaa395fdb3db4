"""Teams and quotas: set, lifted and listed, each act twice in the audit log, as begun and as ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from appliance.domain.errors import LeewardError, NotFound, RequestInvalid
from appliance.domain.operation import Actor
from appliance.domain.quotas import EarlierUse, Measure, Period, Quota, QuotaKind, QuotaUse, Scope
from appliance.domain.tenancy import Priority, Team
from appliance.ports import AuditLog, Clock, KeyRegister, TenancyRegister
from appliance.services.keys import checked

T = TypeVar("T")

NO_BOOT = ""
"""The id of no gateway's boot: all records count."""


class Tenancy:
    """Sets and lists what holds for teams, and how much keys, teams and entities may use.

    Every method raises LedgerUnavailable before there is a ledger.
    """

    def __init__(
        self, *, register: Callable[[], TenancyRegister], keys: KeyRegister, audit: AuditLog, clock: Clock
    ) -> None:
        self._register = register
        self._keys = keys
        self._audit = audit
        self._clock = clock

    def teams(self) -> list[Team]:
        """Return all teams as they stand."""
        return self._register().teams()

    def set_team(self, name: str, *, entity: str, priority: Priority, actor: Actor) -> Team:
        """Make a team, or give it another entity or priority; raises RequestInvalid."""
        name, entity = checked("team", name), checked("entity", entity)
        act = partial(self._register().set_team, name, entity=entity, priority=priority, at=self._clock.now())
        details = {"entity": entity, "priority": priority.value}
        return self._recorded(actor, "team.set", name, details, act)

    def set_quota(self, scope: Scope, subject: str, kind: QuotaKind, *, amount: int | None, actor: Actor) -> None:
        """Set a limit, or lift it with no amount.

        Raises NotFound for a key, a team or an entity that nobody knows, RequestInvalid.
        """
        register, now = self._register(), self._clock.now()
        self._require(register, scope, subject)
        if amount is None:
            act = partial(register.lift_quota, scope, subject, kind, now)
        else:
            act = partial(register.set_quota, _quota(scope, subject, kind, amount, now))
        details = {"scope": scope.value, "kind": kind.value, "amount": "none" if amount is None else str(amount)}
        self._recorded(actor, "quota.set", subject, details, act)

    def quotas(self) -> list[QuotaUse]:
        """Return the limits that hold and what of them is used, as the ledger knows it.

        What requests under way have reserved is not in it: only the gateway knows that.
        """
        register, now = self._register(), self._clock.now()
        quotas = register.quotas()
        entities = {team.team: team.entity for team in register.teams()}
        periods = {quota.kind.period for quota in quotas} - {None}
        used = {
            period: register.earlier_use(period.start(now), except_boot_id=NO_BOOT)
            for period in Period
            if period in periods
        }
        return [_use(quota, used, entities, now) for quota in quotas]

    def _require(self, register: TenancyRegister, scope: Scope, subject: str) -> None:
        if scope is Scope.KEY:
            known = {key.key_id for key in self._keys.keys()}  # noqa: SIM118  a register, not a dict
        else:
            known = {team.team if scope is Scope.TEAM else team.entity for team in register.teams()}
        if subject not in known:
            raise NotFound(
                detail=f"There is no {scope.value} {subject}.",
                remedy="`leeward key list` and `leeward team list` say which there are.",
            )

    def _recorded(self, actor: Actor, action: str, object_: str, details: dict[str, str], act: Callable[[], T]) -> T:
        record = partial(self._audit.append, actor=actor.name, action=action, object_=object_)
        record(outcome="begun", details=details)
        try:
            done = act()
        except LeewardError as error:
            record(outcome="failed", details={**details, "code": error.code})
            raise
        record(outcome="succeeded", details=details)
        return done


def _quota(scope: Scope, subject: str, kind: QuotaKind, amount: int, at: datetime) -> Quota:
    try:
        return Quota(scope=scope, subject=subject, kind=kind, amount=amount, set_at=at)
    except ValueError as error:
        raise RequestInvalid(detail=str(error), remedy="Give another amount, or none to lift the quota.") from error


def _use(quota: Quota, used: dict[Period, list[EarlierUse]], entities: dict[str, str], now: datetime) -> QuotaUse:
    period = quota.kind.period
    if period is None:
        return QuotaUse(quota=quota, used=None, resets_at=None)
    mine = [use for use in used[period] if _subject(use, quota.scope, entities) == quota.subject]
    is_requests = quota.kind.measure is Measure.REQUESTS
    total = sum(use.requests if is_requests else use.tokens for use in mine)
    return QuotaUse(quota=quota, used=total, resets_at=period.end(now))


def _subject(use: EarlierUse, scope: Scope, entities: dict[str, str]) -> str | None:
    if scope is Scope.KEY:
        return use.key_id
    return use.team if scope is Scope.TEAM else entities.get(use.team)
