"""The CLI is a client: quick to start, and without anything of the daemon, the console or Ansible."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import click
import pytest

from appliance.entrypoints.cli import VERBS, cli

FORBIDDEN = ("textual", "sqlalchemy", "alembic", "ansible", "ansible_runner", "fastapi", "pydantic", "uvicorn")
VERB_MODULES = sorted({target.partition(":")[0] for target in VERBS.values() if target.startswith("appliance.")})


def loaded_by(code: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted(sys.modules))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {name.partition(".")[0] for name in ran.stdout.splitlines()[-1].split()}


def test_no_verb_loads_the_daemon_the_console_or_ansible() -> None:
    loaded = loaded_by(f"import appliance.client, appliance.entrypoints.cli, {', '.join(VERB_MODULES)}")

    assert not loaded & set(FORBIDDEN)
    assert {"httpx", "click"} <= loaded  # the guard looks at the right process


def test_the_version_is_there_at_once_and_loads_no_client() -> None:
    command = [sys.executable, "-m", "appliance.entrypoints.cli", "--version"]
    used_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert ran.stdout == f"leeward {version('leeward')}\n"
    assert min(used_s) < 0.3  # processor time: other tests may run beside this one
    assert "httpx" not in loaded_by("import appliance.entrypoints.cli")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_can_be_loaded_and_says_what_it_does(verb: str) -> None:
    module, _, name = VERBS[verb].partition(":")

    command = getattr(import_module(module), name)

    assert isinstance(command, click.Command)
    assert command.name == verb
    assert command.help
    assert cli.get_command(click.Context(cli), verb) is command
