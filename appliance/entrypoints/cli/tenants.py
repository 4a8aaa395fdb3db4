"""Verbs for who is metered: teams, API keys, quotas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from appliance.client import ApplianceClient
from appliance.domain.quotas import QuotaKind, Scope
from appliance.domain.tenancy import SITE_ENTITY, HolderKind, Priority
from appliance.domain.usage import ApiKey, IssuedKey
from appliance.entrypoints.cli.calling import as_json, at, call, say, table

_NONE = "none"
HOUR_S = 3_600


@click.group()
def team() -> None:
    """Say to which legal entity teams belong and how urgent their work is."""


@team.command("set")
@click.argument("name", metavar="TEAM")
@click.option("--entity", default=SITE_ENTITY, show_default=True, help="Legal entity that the team belongs to.")
@click.option(
    "--priority",
    type=click.Choice([priority.value for priority in Priority]),
    default=Priority.STANDARD.value,
    show_default=True,
    help="Its share of the engine while teams wait: 8, 4 or 1.",
)
@as_json
def set_team(*, name: str, entity: str, priority: str, is_json: bool) -> None:
    """Make a team, or change it from now on."""
    made = call(lambda client: client.set_team(name, entity=entity, priority=Priority(priority)))
    if is_json:
        say(made)
    else:
        click.echo(f"Team {made.team} belongs to {made.entity}; its work is {made.priority.value}.")


@team.command("list")
@as_json
def list_teams(*, is_json: bool) -> None:
    """List all teams."""
    teams = call(lambda client: client.teams())
    if is_json:
        for one in teams:
            say(one)
        return
    table([(t.team, t.entity, t.priority.value, at(t.set_at)) for t in teams], ("TEAM", "ENTITY", "PRIORITY", "SET"))


@click.group()
def key() -> None:
    """Make, list, replace and revoke API keys of the gateway."""


@key.command()
@click.option("--team", required=True, help="Who is metered.")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--person", help="The person who holds it.")
@click.option("--program", help="The program that holds it.")
@click.option("--days", type=click.IntRange(1, 3_650), help="In how many days it expires; default: never.")
@click.option("--model", "models", multiple=True, help="A model that it may ask; default: all.")
@click.option("--network", "networks", multiple=True, help="Where it may be used, like 10.1.0.0/16; default: anywhere.")
@as_json
def create(
    *,
    team: str,
    name: str,
    person: str | None,
    program: str | None,
    days: int | None,
    models: tuple[str, ...],
    networks: tuple[str, ...],
    is_json: bool,
) -> None:
    """Make a key. Its secret is shown this once."""
    if person and program:
        raise click.UsageError("A key is held by a person or by a program, not by both.")
    kind = HolderKind.PERSON if person else HolderKind.PROGRAM if program else None

    async def make(client: ApplianceClient) -> IssuedKey:
        return await client.create_key(
            team=team,
            name=name,
            holder=person or program,
            holder_kind=kind,
            expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
            models=models,
            networks=networks,
        )

    _show(call(make), is_json=is_json)


@key.command("list")
@as_json
def list_keys(*, is_json: bool) -> None:
    """List all keys, revoked ones too."""
    keys = call(lambda client: client.keys())
    if is_json:
        for one in keys:
            say(one)
        return
    rows = [
        (k.key_id, k.team, k.name, k.holder or "-", k.prefix, _limits(k), at(k.created_at), at(k.ends_at)) for k in keys
    ]
    table(rows, ("KEY", "TEAM", "NAME", "HOLDER", "BEGINS", "GOOD FOR", "MADE", "ENDS"))


@key.command()
@click.argument("key_id", metavar="KEY")
@click.option(
    "--overlap-hours", type=click.IntRange(0, 90 * 24), default=0, show_default=True, help="How long both work."
)
@as_json
def rotate(*, key_id: str, overlap_hours: int, is_json: bool) -> None:
    """Replace a key by one with the same terms; the old one ends, now or after a while."""
    _show(call(lambda client: client.rotate_key(key_id, overlap_s=overlap_hours * HOUR_S)), is_json=is_json)


@key.command()
@click.argument("key_id", metavar="KEY")
def revoke(*, key_id: str) -> None:
    """End a key's use, at once."""
    call(lambda client: client.revoke_key(key_id))
    click.echo(f"Key {key_id} is revoked.")


@click.group()
def quota() -> None:
    """Limit what keys, teams and legal entities use."""


@quota.command("set")
@click.option("--key", "keys", help="The key's id.")
@click.option("--team", "teams", help="The team's name.")
@click.option("--entity", "entities", help="The legal entity's name.")
@click.argument("limits", metavar="KIND=AMOUNT...", nargs=-1, required=True)
def set_quota(*, keys: str | None, teams: str | None, entities: str | None, limits: tuple[str, ...]) -> None:
    """Set or lift limits, such as tokens/day=2000000 requests/minute=60 concurrency=none.

    KIND is tokens or requests by /minute, /day or /month (UTC), or concurrency; AMOUNT a whole number or none.
    """
    given = [(scope, name) for scope, name in zip(Scope, (keys, teams, entities), strict=True) if name]
    if len(given) != 1:
        raise click.UsageError("Give one of --key, --team and --entity.")
    ((scope, subject),) = given
    read = [_limit(text) for text in limits]

    async def set_all(client: ApplianceClient) -> None:
        for kind, amount in read:
            await client.set_quota(scope, subject, kind, amount)

    call(set_all)
    click.echo(f"Set for {scope.value} {subject}; the gateway holds to it within seconds.")


@quota.command("list")
@as_json
def list_quotas(*, is_json: bool) -> None:
    """List the limits that hold and what of them is used."""
    quotas = call(lambda client: client.quotas())
    if is_json:
        for one in quotas:
            say(one)
        return
    rows = [
        (
            use.quota.scope.value,
            use.quota.subject,
            use.quota.kind.value,
            f"{use.quota.amount:,}",
            "-" if use.used is None else f"{use.used:,}",
            at(use.resets_at),
        )
        for use in quotas
    ]
    table(rows, ("OF", "NAME", "KIND", "LIMIT", "USED", "RESETS"))


def _show(issued: IssuedKey, *, is_json: bool) -> None:
    if is_json:
        say(issued)
        return
    click.echo(
        f"Key {issued.key.key_id} for team {issued.key.team}. The secret is stored nowhere; note it now:", err=True
    )
    click.echo(issued.secret)


def _limits(key: ApiKey) -> str:
    return " ".join((*key.models, *key.networks)) or "all"


def _limit(text: str) -> tuple[QuotaKind, int | None]:
    kind, _, amount = text.partition("=")
    try:
        return QuotaKind(kind), None if amount == _NONE else int(amount.replace(",", "").replace("_", ""))
    except ValueError as error:
        kinds = ", ".join(one.value for one in QuotaKind)
        raise click.UsageError(f"{text!r} is not KIND=AMOUNT. KIND is one of {kinds}.") from error
