# ruff: noqa: INP001  Ansible loads this file by its path; it is no module of the appliance
"""Runs inside ansible-playbook: tells how many tasks come, and ends the play once someone has asked to stop.

Killing ansible-playbook would leave the command that it started running on the node. So the request
is a file, and it is looked for only where nothing runs: before each task and each handler.

The number of tasks is what `--list-tasks` would count; asking here saves a second start of Ansible.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]  # Ansible ships no types

DOCUMENTATION = """
name: stop_between_tasks
type: aggregate
short_description: ends the play before its next task once someone has asked to stop
description: >
  A request to stop is a file; its path is in the environment variable LEEWARD_STOP_FILE.
  The number of tasks goes into the file that LEEWARD_COUNT_FILE names.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stop_between_tasks"

    def v2_playbook_on_play_start(self, play: Any) -> None:  # noqa: ANN401  Ansible ships no types
        if path := os.environ.get("LEEWARD_COUNT_FILE"):
            Path(path).write_text(str(_count(play)), encoding="utf-8")

    def v2_playbook_on_task_start(self, task: object, is_conditional: bool) -> None:  # noqa: ARG002, FBT001  Ansible's signature
        _stop_if_asked()

    def v2_playbook_on_handler_task_start(self, task: object) -> None:  # noqa: ARG002  Ansible's signature
        _stop_if_asked()


def _count(play: Any) -> int:  # noqa: ANN401  Ansible ships no types
    variables = play.get_variable_manager().get_vars(play=play)
    return sum(_tasks(block.filter_tagged_tasks(variables)) for block in play.compile())


def _tasks(block: Any) -> int:  # noqa: ANN401  Ansible ships no types
    """Count the tasks that somebody wrote, those of inner blocks included."""
    return sum(
        _tasks(task) if hasattr(task, "block") else not (getattr(task, "implicit", False)) for task in block.block
    )


def _stop_if_asked() -> None:
    path = os.environ.get("LEEWARD_STOP_FILE")
    if path and Path(path).exists():
        raise KeyboardInterrupt
