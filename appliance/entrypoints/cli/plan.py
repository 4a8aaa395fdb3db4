"""What provisioning would change: made, shown and approved before it changes anything."""

from __future__ import annotations

import click

from appliance.client import ApplianceClient
from appliance.domain.operation import OperationKind, OperationState
from appliance.domain.plan import PlanRecord, Prediction
from appliance.domain.projection import OperationView
from appliance.entrypoints.cli.calling import as_json, at, call, say
from appliance.entrypoints.cli.operations import ended, followed

_MARKS = {Prediction.CHANGES: "change ", Prediction.NOT_PREDICTABLE: "unknown", Prediction.UNCHANGED: "       "}


@click.group(invoke_without_command=True)
@as_json
@click.pass_context
def plan(context: click.Context, *, is_json: bool) -> int:
    """Try what `provision` would change with the imported release; changes nothing."""
    if context.invoked_subcommand is not None:
        return 0

    async def made(client: ApplianceClient) -> tuple[OperationView, PlanRecord | None]:
        begun = await client.start(OperationKind.PLAN, {})
        view = await followed(client, begun.id, is_json=False) if not is_json else await _awaited(client, begun)
        return view, await client.plan(view.plan) if view.state is OperationState.SUCCEEDED else None

    view, record = call(made)
    if record is None:
        return ended(view, is_json=is_json)
    _tell(record, is_json=is_json)
    return 0


@plan.command()
@click.argument("digest", metavar="DIGEST")
@as_json
def show(*, digest: str, is_json: bool) -> None:
    """Show a plan that was made on this node."""
    _tell(call(lambda client: client.plan(digest)), is_json=is_json)


@plan.command()
@click.argument("digest", metavar="DIGEST")
@as_json
def approve(*, digest: str, is_json: bool) -> None:
    """Approve a plan that another administrator made."""
    record = call(lambda client: client.approve_plan(digest))
    if is_json:
        say(record)
    else:
        click.echo(f"Approved by {record.approved_by}. Now: leeward provision --plan {record.digest}")


async def _awaited(client: ApplianceClient, begun: OperationView) -> OperationView:
    async for _ in client.follow(begun.id):
        pass
    return await client.operation(begun.id)


def _tell(record: PlanRecord, *, is_json: bool) -> None:
    if is_json:
        say(record)
        return
    made = record.plan
    click.echo(f"Plan {record.digest}")
    click.echo(f"for {made.node} and release {made.basis.slot}, made {at(made.made_at)} by {made.made_by}")
    click.echo(f"approved by {record.approved_by or 'nobody yet'}")
    role = ""
    for task in made.tasks:
        if task.prediction is Prediction.UNCHANGED:
            continue
        if task.role != role:
            role = task.role
            click.echo(f"{role or 'the play itself'}:")
        click.echo(f"  {_MARKS[task.prediction]}  {task.task}")
        for line in task.detail.splitlines():
            click.echo(f"             {line}")
    click.echo(f"{made.count(Prediction.UNCHANGED)} tasks would change nothing.")
    for consequence in made.consequences:
        click.echo(f"- {consequence}")
    click.echo(f"Disk: up to {made.disk_peak_bytes / 1e9:.1f} GB more, while environments are made.")
    guess = made.estimate
    known = f"{guess.recorded_tasks} tasks as this node's journal has them, {guess.tabled_tasks} from a table"
    click.echo(f"Time: about {guess.seconds} s ({known}), and what loading the model takes.")
