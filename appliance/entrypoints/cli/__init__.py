"""`leeward`: what a person or a script types. Every verb is a call of the management API.

Verbs are loaded when they are called, so that `leeward --version` and shell completion stay quick.
Lines are for people; `--json` gives one JSON value a line. The exit status says who must act:
0 ok, 1 failed, 2 usage or configuration, 3 node, 4 trust, 5 licence, 6 engine, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bundles.cli.lazy import LazyGroup
from bundles.errors import LeewardError

INTERRUPTED = 130

_HERE = "appliance.entrypoints.cli"
VERBS: dict[str, str] = {
    "acceptance": f"{_HERE}.acceptance:acceptance",
    "audit": f"{_HERE}.records:audit",
    "bundle": "bundles.cli:bundle",
    "cancel": f"{_HERE}.operations:cancel",
    "capture": f"{_HERE}.capture:capture",
    "client-config": f"{_HERE}.client_config:client_config",
    "compliance": f"{_HERE}.posture:compliance",
    "console": f"{_HERE}.node:console",
    "egress": f"{_HERE}.posture:egress",
    "costs": f"{_HERE}.usage:costs",
    "engine": f"{_HERE}.engines:engine",
    "export": f"{_HERE}.operations:export",
    "facts": f"{_HERE}.node:facts",
    "follow": f"{_HERE}.operations:follow",
    "health": f"{_HERE}.node:health",
    "import": f"{_HERE}.operations:import_",
    "install": f"{_HERE}.operations:install",
    "key": f"{_HERE}.tenants:key",
    "license": f"{_HERE}.records:license_",
    "monitoring": f"{_HERE}.monitoring:monitoring",
    "operations": f"{_HERE}.operations:operations",
    "plan": f"{_HERE}.plan:plan",
    "passport": f"{_HERE}.acceptance:passport",
    "preflight": f"{_HERE}.node:preflight",
    "provision": f"{_HERE}.operations:provision",
    "quota": f"{_HERE}.tenants:quota",
    "status": f"{_HERE}.node:status",
    "team": f"{_HERE}.tenants:team",
    "uninstall": f"{_HERE}.removal:uninstall",
    "usage": f"{_HERE}.usage:usage",
}


@click.group(
    cls=LazyGroup,
    verbs=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="leeward", message="leeward %(version)s")
@click.option("--socket", type=click.Path(path_type=Path), help="The management daemon's socket.")
@click.pass_context
def cli(context: click.Context, socket: Path | None) -> None:
    """Install, watch and account for Mistral-Medium-3.5-128B on a disconnected node."""
    context.obj = socket


def main() -> None:
    """Run a verb and turn what it raises into lines and an exit status."""
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. An operation that was started goes on: `leeward operations`.", err=True)
        sys.exit(INTERRUPTED)
    except LeewardError as error:
        sys.exit(report(error))
    sys.exit(status if isinstance(status, int) else 0)


def report(error: LeewardError) -> int:
    """Say an error to a person, on standard error; returns the exit status."""
    click.echo(f"{error.title}  [{error.code}]", err=True)
    click.echo(f"  {error.detail}".replace("\n", "\n  "), err=True)
    if error.remedy:
        click.echo(f"What to do: {error.remedy}", err=True)
    return error.exit_status
