"""Teams and quotas in the ledger, and what quotas need to know of usage.

Both tables are append-only: what holds is the newest row of a team, or of a quota.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, func, insert, select, union_all
from sqlalchemy.exc import DBAPIError

from appliance.adapters.sql_ledger.schema import from_microseconds, quota, team, to_microseconds, usage_record
from appliance.domain.errors import LedgerUnavailable
from appliance.domain.quotas import EarlierUse, Quota, QuotaKind, Scope
from appliance.domain.tenancy import SITE_ENTITY, Priority, Team


class SqlTenancyRegister:
    """`ports.TenancyRegister` on the ledger. What reads raises LedgerUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(ledger_read=True)

    def set_team(self, name: str, *, entity: str, priority: Priority, at: datetime) -> Team:
        """Make a team, or give it another entity or priority from now on."""
        with self._engine.begin() as connection:
            return _add_team(connection, Team(team=name, entity=entity, priority=priority, set_at=at))

    def teams(self) -> list[Team]:
        """Return all teams as they stand, by name."""
        return [_team(row) for row in self._read(current_teams().order_by(team.c.team))]

    def set_quota(self, one: Quota) -> None:
        """Set a limit from now on."""
        self._add_quota(one.scope, one.subject, one.kind, amount=one.amount, at=one.set_at)

    def lift_quota(self, scope: Scope, subject: str, kind: QuotaKind, at: datetime) -> None:
        """Limit this no longer."""
        self._add_quota(scope, subject, kind, amount=None, at=at)

    def quotas(self) -> list[Quota]:
        """Return the limits that hold, in the order of scope, subject and kind."""
        columns = quota.c
        newest = select(func.max(columns.seq)).group_by(columns.scope, columns.subject, columns.kind)
        query = (
            select(quota)
            .where(columns.seq.in_(newest), columns.amount.is_not(None))
            .order_by(columns.scope, columns.subject, columns.kind)
        )
        return [_quota(row) for row in self._read(query)]

    def version(self) -> tuple[int, ...]:
        """Return what is another value whenever a team or a quota was set."""
        query = union_all(select(func.count()).select_from(team), select(func.count()).select_from(quota))
        return tuple(row[0] for row in self._read(query))

    def earlier_use(self, since: datetime, *, except_boot_id: str) -> list[EarlierUse]:
        """Add up what was admitted since a time, but for what the gateway of that boot id has admitted.

        Where no charge was written (records of older versions, a gateway that was killed), the known counts are it.
        """
        columns = usage_record.c
        known = func.coalesce(columns.prompt_tokens, 0) + func.coalesce(columns.completion_tokens, 0)
        query = (
            select(
                columns.key_id,
                columns.team,
                func.count().label("requests"),
                func.sum(func.coalesce(columns.charged_tokens, known)).label("tokens"),
            )
            .where(columns.admitted_at_us >= to_microseconds(since), columns.boot_id != except_boot_id)
            .group_by(columns.key_id, columns.team)
        )
        return [
            EarlierUse(key_id=row.key_id, team=row.team, requests=row.requests, tokens=row.tokens)
            for row in self._read(query)
        ]

    def _add_quota(self, scope: Scope, subject: str, kind: QuotaKind, *, amount: int | None, at: datetime) -> None:
        row = insert(quota).values(
            scope=scope.value, subject=subject, kind=kind.value, amount=amount, set_at_us=to_microseconds(at)
        )
        with self._engine.begin() as connection:
            connection.execute(row)

    def _read(self, query: Any) -> list[Row[Any]]:  # noqa: ANN401  a select or a union of them
        try:
            with self._reading.connect() as connection:
                return list(connection.execute(query))
        except DBAPIError as problem:
            raise LedgerUnavailable(
                detail=f"Teams and quotas could not be read: {problem.orig}",
                remedy="Check the ledger's disk and owner, then restart leeward-gateway.",
            ) from problem


def current_teams() -> Select[Any]:
    """Select every team's newest row."""
    return select(team).where(team.c.seq.in_(select(func.max(team.c.seq)).group_by(team.c.team)))


def ensure_team(connection: Connection, name: str, at: datetime) -> Team:
    """Return a team; one that is not known yet becomes one of the site, with standard priority."""
    row = connection.execute(current_teams().where(team.c.team == name)).one_or_none()
    if row is not None:
        return _team(row)
    return _add_team(connection, Team(team=name, entity=SITE_ENTITY, priority=Priority.STANDARD, set_at=at))


def _add_team(connection: Connection, one: Team) -> Team:
    row = insert(team).values(
        team=one.team, entity=one.entity, priority=one.priority.value, set_at_us=to_microseconds(one.set_at)
    )
    connection.execute(row)
    return one


def _team(row: Row[Any]) -> Team:
    set_at = from_microseconds(row.set_at_us)
    assert set_at is not None  # noqa: S101  the column is NOT NULL
    return Team(team=row.team, entity=row.entity, priority=Priority(row.priority), set_at=set_at)


def _quota(row: Row[Any]) -> Quota:
    set_at = from_microseconds(row.set_at_us)
    assert set_at is not None  # noqa: S101  the column is NOT NULL
    return Quota(
        scope=Scope(row.scope), subject=row.subject, kind=QuotaKind(row.kind), amount=row.amount, set_at=set_at
    )
