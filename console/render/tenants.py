"""The Keys screen as lines: each team with its limits and its keys, then the limits of legal entities."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from textual.content import Content

from appliance.domain.quotas import QuotaUse, Scope
from appliance.domain.tenancy import Team
from appliance.domain.usage import ApiKey, IssuedKey
from console.render import text
from console.render.frame import Frame
from console.render.listing import Line, Table

ENDS_SOON: Final = timedelta(days=14)
NEARLY_USED: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """Who is metered, with which keys and limits."""

    teams: tuple[Team, ...]
    keys: tuple[ApiKey, ...]
    quotas: tuple[QuotaUse, ...]

    def key(self, key_id: str) -> ApiKey | None:
        """Return a key by its id."""
        return next((key for key in self.keys if key.key_id == key_id), None)

    @property
    def names(self) -> tuple[str, ...]:
        """All teams, also those that only a key speaks of."""
        return tuple(sorted({*(team.team for team in self.teams), *(key.team for key in self.keys)}))


def counts(tenants: Tenants, now: datetime) -> str:
    """Say how many there are."""
    valid = sum(key.is_valid(now) for key in tenants.keys)
    teams = len(tenants.names)
    return (
        f"{teams} team{'s' if teams != 1 else ''}, {valid} key{'s' if valid != 1 else ''} in use, "
        f"{len(tenants.keys) - valid} ended"
    )


def table(tenants: Tenants, frame: Frame) -> Table:
    """Draw teams, keys and limits; a line's key is `team:NAME`, `key:ID` or `quota:SCOPE:SUBJECT`."""
    lines: list[Line] = []
    for name in tenants.names:
        lines.append(_team(name, tenants))
        lines.extend(_quotas(tenants, Scope.TEAM, name, frame))
        for key in (key for key in tenants.keys if key.team == name):
            lines.extend((_key(key, frame), *_quotas(tenants, Scope.KEY, key.key_id, frame)))
    for name in sorted({use.quota.subject for use in tenants.quotas if use.quota.scope is Scope.ENTITY}):
        lines.append(_head(f"entity:{name}", name, "a legal entity"))
        lines.extend(_quotas(tenants, Scope.ENTITY, name, frame))
    name_width, holder_width = _widths(frame)
    header = f"     {'team, key, limit':<{name_width}} {'begins':<10} {'holder':<{holder_width}} {'made':<10} ends"
    return Table(header=header, lines=tuple(lines), empty="There is no key. Press n to make the first one.")


def key_detail(key: ApiKey, tenants: Tenants, frame: Frame) -> list[Content]:
    """Draw all that is known of a key; its secret is stored nowhere."""
    rows = [
        ("Key", key.key_id),
        ("Name", key.name),
        ("Team", f"{key.team}, of {key.entity}, {key.priority.value}"),
        ("Begins with", key.prefix),
        ("Holder", f"{key.holder} ({key.holder_kind})" if key.holder else text.NOT_APPLICABLE),
        ("Made", _moment(key.created_at)),
        ("Ends", "never" if key.ends_at is None else _moment(key.ends_at)),
        ("Models", ", ".join(key.models) or "all"),
        ("Networks", ", ".join(key.networks) or "any"),
        ("Replaces", key.replaces or text.NOT_APPLICABLE),
    ]
    drawn = [Content.assemble(text.muted(f"{name:<14}"), value) for name, value in rows]
    limits = [
        *_quotas(tenants, Scope.KEY, key.key_id, frame),
        *_quotas(tenants, Scope.TEAM, key.team, frame),
        *_quotas(tenants, Scope.ENTITY, key.entity, frame),
    ]
    drawn += [Content(""), Content.styled("Limits that hold for it", "bold $primary")]
    drawn += [Content.assemble(line.state or "", line.rest) for line in limits] or [Content("none")]
    return drawn


def team_detail(name: str, tenants: Tenants, frame: Frame) -> list[Content]:
    """Draw a team, its limits and its keys."""
    own = Tenants(
        teams=tuple(team for team in tenants.teams if team.team == name),
        keys=tuple(key for key in tenants.keys if key.team == name),
        quotas=tenants.quotas,
    )
    return [Content.assemble(line.state or "", line.rest) for line in table(own, frame).lines]


def secret_lines(issued: IssuedKey) -> list[Content]:
    """Draw a new key's secret: this is the only time that it is seen."""
    return [
        Content(f"Key {issued.key.key_id} ({issued.key.name}) for team {issued.key.team}."),
        Content(""),
        Content.styled(issued.secret, "bold"),
        Content(""),
        Content.styled("The secret is stored nowhere. Note it now: once this page is closed it is gone.", "$warning"),
    ]


def _team(name: str, tenants: Tenants) -> Line:
    team = next((team for team in tenants.teams if team.team == name), None)
    what = "not set: entity site, standard" if team is None else f"of {team.entity}, {team.priority.value}"
    return _head(f"team:{name}", name, what)


def _head(key: str, name: str, what: str) -> Line:
    return Line(key=key, rest=Content.assemble((text.fit(name, 28), "bold $primary"), what))


def _key(key: ApiKey, frame: Frame) -> Line:
    now, ends_at = frame.now, key.ends_at
    name_width, holder_width = _widths(frame)
    if not key.is_valid(now):
        state = text.OFF
    else:
        state = text.WARN if ends_at is not None and ends_at - now < ENDS_SOON else text.OK
    ends = "never" if ends_at is None else f"{ends_at:%Y-%m-%d}"
    if key.revoked_at is not None and key.revoked_at <= now:
        ends = f"revoked {key.revoked_at:%Y-%m-%d}"
    rest = (
        f" {text.fit(key.name, name_width)} {text.fit(key.prefix, 10)} {text.fit(key.holder or '--', holder_width)} "
        f"{key.created_at:%Y-%m-%d} {ends}"
    )
    return Line(key=f"key:{key.key_id}", rest=Content(rest), state=state)


def _quotas(tenants: Tenants, scope: Scope, subject: str, frame: Frame) -> list[Line]:
    return [_quota(use, frame) for use in tenants.quotas if (use.quota.scope, use.quota.subject) == (scope, subject)]


def _quota(use: QuotaUse, frame: Frame) -> Line:
    quota = use.quota
    share = None if use.used is None else 1.0 if not quota.amount else use.used / quota.amount
    if share is None or use.used is None:
        state, used = text.STALE, text.UNKNOWN
    else:
        state = text.FAIL if share >= 1 else text.WARN if share >= NEARLY_USED else text.OK
        used = _count(use.used, frame)
    resets = "" if use.resets_at is None else f", new at {use.resets_at:%m-%d %H:%MZ}"
    rest = Content.assemble(
        f" {text.fit(f'limit {quota.kind.value}', 24)} ",
        text.bar(share, 20 if frame.wide else 8, frame.capabilities),
        f" {used} of {_count(quota.amount, frame)}",
        text.muted(resets),
    )
    return Line(key=f"quota:{quota.scope.value}:{quota.subject}:{quota.kind.value}", rest=rest, state=state)


def _widths(frame: Frame) -> tuple[int, int]:
    """Return the columns of names and of holders."""
    return (32, 24) if frame.wide else (20, 10)


def _count(count: int, frame: Frame) -> str:
    return f"{count:,}" if frame.wide else text.short(count)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"
