"""The verb that takes Leeward off a node."""

from __future__ import annotations

import click

from appliance.domain.operation import OperationKind
from appliance.domain.removal import KEEP, REMOVE
from appliance.entrypoints.cli.calling import as_json
from appliance.entrypoints.cli.operations import following, start


@click.command()
@click.option("--node", required=True, metavar="NAME", help="This node's name, as a confirmation.")
@click.option("--keep-packages", is_flag=True, help="Leave the packages that Leeward brought.")
@click.option("--drivers", "with_drivers", is_flag=True, help="Take the GPU driver that Leeward brought too.")
@click.option(
    "--records",
    metavar="SENTENCE",
    help='Delete ledger, audit log, trust and keys for ever; SENTENCE is "delete the records of NAME".',
)
@following
@as_json
def uninstall(
    *, node: str, keep_packages: bool, with_drivers: bool, records: str | None, is_followed: bool, is_json: bool
) -> int:
    """Take off this node what Leeward made, and nothing else; records of the site stay."""
    parameters = {
        "node": node,
        "packages": KEEP if keep_packages else REMOVE,
        "drivers": REMOVE if with_drivers else KEEP,
        **({} if records is None else {"records": records}),
    }
    return start(OperationKind.UNINSTALL, parameters, is_followed=is_followed, is_json=is_json)
