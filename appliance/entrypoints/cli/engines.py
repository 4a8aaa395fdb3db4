"""Verbs for the engines behind the gateway."""

from __future__ import annotations

import click

from appliance.domain.routing import EngineStanding, EngineView
from appliance.entrypoints.cli.calling import as_json, call, say, table


@click.group()
def engine() -> None:
    """List the engines behind the gateway, and take one out for work on it."""


@engine.command("list")
@as_json
def list_engines(*, is_json: bool) -> None:
    """Say how each engine stands."""
    engines = call(lambda client: client.engines())
    if is_json:
        for one in engines:
            say(one)
        return
    rows = [(one.name, one.place, _state(one), _figure(one.standing)) for one in engines]
    table(rows, ("ENGINE", "PLACE", "STATE", "REQUESTS"))


@engine.command()
@click.argument("name", metavar="ENGINE")
@as_json
def drain(*, name: str, is_json: bool) -> None:
    """Let an engine finish what it has and give it nothing new, until `undrain` or the node's restart."""
    seen = call(lambda client: client.drain_engine(name, is_drained=True))
    if is_json:
        say(seen)
        return
    click.echo(
        f"{seen.name} gets no new requests within two seconds. `leeward engine list` says when it has none left."
    )


@engine.command()
@click.argument("name", metavar="ENGINE")
@as_json
def undrain(*, name: str, is_json: bool) -> None:
    """Give an engine requests again."""
    seen = call(lambda client: client.drain_engine(name, is_drained=False))
    if is_json:
        say(seen)
        return
    click.echo(f"{seen.name} gets requests again.")


def _state(one: EngineView) -> str:
    standing = one.standing
    if standing is None:
        return "drained, else unknown" if one.is_drained else "unknown: the gateway does not say"
    words = ["up" if standing.is_up else "down"]
    words += ["drained"] if one.is_drained else []
    words += ["spared after failures"] if standing.is_spared else []
    return ", ".join(words)


def _figure(standing: EngineStanding | None) -> str:
    return "-" if standing is None else str(standing.in_flight)
