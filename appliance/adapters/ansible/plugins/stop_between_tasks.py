# ruff: noqa: INP001  Ansible loads this file by its path; it is no module of the appliance
"""Runs inside ansible-playbook: ends the play before its next task once someone has asked to stop.

Killing ansible-playbook would leave the command that it started running on the node. So the request
is a file, and it is looked for only where nothing runs: before each task and each handler.
"""

from __future__ import annotations

import os

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]  # Ansible ships no types

DOCUMENTATION = """
name: stop_between_tasks
type: aggregate
short_description: ends the play before its next task once someone has asked to stop
description: A request to stop is a file; its path is in the environment variable LEEWARD_STOP_FILE.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stop_between_tasks"

    def v2_playbook_on_task_start(self, task: object, is_conditional: bool) -> None:  # noqa: ARG002, FBT001  Ansible's signature
        _stop_if_asked()

    def v2_playbook_on_handler_task_start(self, task: object) -> None:  # noqa: ARG002  Ansible's signature
        _stop_if_asked()


def _stop_if_asked() -> None:
    path = os.environ.get("LEEWARD_STOP_FILE")
    if path and os.path.exists(path):  # noqa: PTH110  runs before each task; pathlib is not loaded here
        raise KeyboardInterrupt
