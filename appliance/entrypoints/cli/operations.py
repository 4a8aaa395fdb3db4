"""Verbs that start, follow and stop operations."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.client import ApplianceClient, error_from_view
from appliance.domain.errors import ConfigInvalid
from appliance.domain.license import RevenueBand
from appliance.domain.operation import ACCEPTANCE, VOLUMES, OperationId, OperationKind, OperationState
from appliance.domain.projection import OperationView
from appliance.entrypoints.cli import INTERRUPTED, report
from appliance.entrypoints.cli.calling import as_json, at, call, say, table
from appliance.entrypoints.cli.following import LinePrinter, closing
from appliance.entrypoints.cli.judging import judgement_parameters, judging

Verb = TypeVar("Verb")

STATEMENT_FIELDS = ("band", "legal_entity", "signatory", "role")
following = click.option("--follow/--no-follow", "is_followed", default=True, help="Show it until it ends.")
medium_option = click.option("--medium", metavar="DIR", help="Folder where the medium is mounted.")
plan_option = click.option("--plan", metavar="DIGEST", help="Go on only if this plan still holds.")
acceptance_option = click.option(
    "--acceptance/--no-acceptance",
    "is_accepted",
    default=None,
    help="Measure the node too, and write its capacity passport; default: as leeward.toml says.",
)
volumes_option = click.option(
    "--volume", "volumes", metavar="DIR", multiple=True, help="Folder of a further volume of the set; again for more."
)


@click.command()
@medium_option
@volumes_option
@click.option("--answers", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with the same answers.")
@click.option(
    "--attest-band",
    type=click.Choice([band.value for band in RevenueBand]),
    help="Last month's revenue and the threshold.",
)
@click.option("--legal-entity", help="Company that the statement is for.")
@click.option("--signatory", help="Who makes the statement.")
@click.option("--role", help="The signatory's role in the company.")
@plan_option
@acceptance_option
@judging
@following
@as_json
def install(
    *,
    answers: Path | None,
    medium: str | None,
    volumes: tuple[str, ...],
    plan: str | None,
    is_accepted: bool | None,
    is_strict: bool,
    waived: tuple[str, ...],
    reasons: tuple[str, ...],
    is_followed: bool,
    is_json: bool,
    **statement: str,
) -> int:
    """Install a release from a medium: check, verify, import, provision, start, test."""
    given = _answers(answers)
    if medium:
        given["medium"] = medium
    words = {field: statement["attest_band" if field == "band" else field] for field in STATEMENT_FIELDS}
    made = {**given.pop("attestation", {}), **{field: word for field, word in words.items() if word}}
    judgement = judgement_parameters(is_strict=is_strict, waived=waived, reasons=reasons)
    parameters = {**_media(given.get("medium"), volumes), **judgement, **_change(plan, is_accepted=is_accepted)}
    if made:
        parameters["attestation"] = json.dumps(made, ensure_ascii=False)
    return start(OperationKind.INSTALL, parameters, is_followed=is_followed, is_json=is_json)


@click.command("import")
@medium_option
@volumes_option
@judging
@following
@as_json
def import_(
    *,
    medium: str | None,
    volumes: tuple[str, ...],
    is_strict: bool,
    waived: tuple[str, ...],
    reasons: tuple[str, ...],
    is_followed: bool,
    is_json: bool,
) -> int:
    """Verify a release and copy it into the store; activates nothing."""
    judgement = judgement_parameters(is_strict=is_strict, waived=waived, reasons=reasons)
    parameters = {**_media(medium, volumes), **judgement}
    return start(OperationKind.IMPORT, parameters, is_followed=is_followed, is_json=is_json)


@click.command()
@plan_option
@acceptance_option
@judging
@following
@as_json
def provision(
    *,
    plan: str | None,
    is_accepted: bool | None,
    is_strict: bool,
    waived: tuple[str, ...],
    reasons: tuple[str, ...],
    is_followed: bool,
    is_json: bool,
) -> int:
    """Bring the node into the state that the imported release asks for, and serve it."""
    judgement = judgement_parameters(is_strict=is_strict, waived=waived, reasons=reasons)
    parameters = {**judgement, **_change(plan, is_accepted=is_accepted)}
    return start(OperationKind.PROVISION, parameters, is_followed=is_followed, is_json=is_json)


@click.group()
def export() -> None:
    """Carry something out of the site."""


@export.command()
@click.option("--out", "destination", required=True, metavar="DIR", help="Folder for the evidence bundle.")
@following
@as_json
def evidence(*, destination: str, is_followed: bool, is_json: bool) -> int:
    """Write signed evidence for an auditor: usage, licence records, audit log, what ran when."""
    parameters = {"destination": _absolute(destination)}
    return start(OperationKind.EXPORT_EVIDENCE, parameters, is_followed=is_followed, is_json=is_json)


@click.command()
@click.argument("operation_id", metavar="[ID]", required=False)
@as_json
def operations(*, operation_id: str | None, is_json: bool) -> None:
    """List operations, newest first, or show one."""
    if operation_id is not None:
        _show(call(lambda client: client.operation(OperationId(operation_id))), is_json=is_json)
        return
    views = call(lambda client: client.operations())
    if is_json:
        for view in views:
            say(view)
        return
    rows = [(v.id, v.kind.value, v.state.value, at(v.started_at), v.actor) for v in views]
    table(rows, ("OPERATION", "KIND", "STATE", "STARTED", "BY"))


@click.command()
@click.argument("operation_id", metavar="ID")
@as_json
def follow(*, operation_id: str, is_json: bool) -> int:
    """Show an operation from its beginning until it ends; leaving does not stop it."""
    return ended(call(lambda client: followed(client, OperationId(operation_id), is_json=is_json)), is_json=is_json)


@click.command()
@click.argument("operation_id", metavar="ID")
@as_json
def cancel(*, operation_id: str, is_json: bool) -> None:
    """Ask an operation to stop at its next safe point."""
    view = call(lambda client: client.cancel(OperationId(operation_id)))
    if is_json:
        say(view)
    elif view.state.ended:
        click.echo(f"Operation {view.id} has ended already: {view.state.value}")
    else:
        click.echo(f"Operation {view.id} stops at its next safe point.")


def start(kind: OperationKind, parameters: dict[str, str], *, is_followed: bool, is_json: bool) -> int:
    """Start an operation and follow it where that is asked; returns the exit status."""

    async def started(client: ApplianceClient) -> OperationView:
        view = await client.start(kind, parameters)
        if not is_json:
            click.echo(f"Operation {view.id}. It goes on without you; come back with `leeward follow {view.id}`.")
        return await followed(client, view.id, is_json=is_json) if is_followed else view

    view = call(started)
    if not is_followed:
        if is_json:
            say(view)
        return 0
    return ended(view, is_json=is_json)


async def followed(client: ApplianceClient, operation_id: OperationId, *, is_json: bool) -> OperationView:
    """Print an operation until it ends."""
    printer = LinePrinter()
    async for record in client.follow(operation_id):
        lines = printer.lines(record)
        if is_json:
            say(record)
            continue
        for line in lines:
            click.echo(line)
    return printer.view or await client.operation(operation_id)


def ended(view: OperationView, *, is_json: bool) -> int:
    """Say what must be said last; returns the exit status."""
    if view.state is OperationState.SUCCEEDED:
        if is_json and view.evidence is not None:
            say(view.evidence)
        return 0
    if view.error is not None:
        return report(error_from_view(view.error))
    return INTERRUPTED


def _show(view: OperationView, *, is_json: bool) -> None:
    if is_json:
        say(view)
        return
    click.echo(
        f"{view.kind} {view.id} on {view.node}: {view.state.value}, started {at(view.started_at)} by {view.actor}"
    )
    table([(s.title, s.state.value, at(s.ended_at), s.summary) for s in view.steps], ("STEP", "STATE", "ENDED", ""))
    counts = view.task_counts
    if counts.total:
        click.echo(f"Tasks: {counts.ok} ok, {counts.changed} changed, {counts.skipped} skipped, {counts.failed} failed")
    if view.state.ended:
        click.echo(closing(view)[0])
    if view.error is not None:
        report(error_from_view(view.error))


def _media(medium: str | None, volumes: tuple[str, ...]) -> dict[str, str]:
    """Return the parameters that name media."""
    more = {VOLUMES: "\n".join(map(_absolute, volumes))} if volumes else {}
    return {"medium": _absolute(medium), **more}


def _change(plan: str | None, *, is_accepted: bool | None) -> dict[str, str]:
    """Return the parameters of a change of the node; what was not given is left out."""
    measured = {} if is_accepted is None else {ACCEPTANCE: str(is_accepted).lower()}
    return measured if plan is None else {**measured, "plan": plan}


def _absolute(path: str | None) -> str:
    if not path:
        raise click.UsageError("Name the medium: --medium DIR, or `medium` in the answers file.")
    return str(Path(path).absolute())


def _answers(path: Path | None) -> dict[str, Any]:
    """Read an answers file; raises ConfigInvalid, which names what is wrong."""
    if path is None:
        return {}
    remedy = "Keys: medium, and the table [attestation] with band, legal_entity, signatory, role."
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(detail=f"{path}: {error}", remedy=remedy) from error
    statement = given.get("attestation", {})
    unknown = sorted(set(given) - {"medium", "attestation"})
    if isinstance(statement, dict):
        unknown += [f"attestation.{key}" for key in sorted(set(statement) - {*STATEMENT_FIELDS, "use_month"})]
    if unknown or not isinstance(statement, dict) or not isinstance(given.get("medium", ""), str):
        raise ConfigInvalid(
            detail=f"{path}: {'unknown key ' + ', '.join(unknown) if unknown else 'a key has the wrong type'}",
            remedy=remedy,
        )
    return given
