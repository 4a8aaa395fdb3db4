"""`PlaybookRunner` with ansible-runner.

Rules: Ansible never asks a person anything; nothing that a run was given is written where a later
run would pick it up; a request to stop is honoured between two tasks, never inside one; ansible's
processes stay in the caller's control group, so that they die with a killed daemon. A play that was
killed is simply run again: the roles are idempotent.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import ansible_runner

from appliance.adapters.ansible.prediction import Predictions
from appliance.adapters.ansible.translation import TaskFailure, Translation
from appliance.domain.errors import Canceled, PlaybookFailed
from appliance.domain.events import Progressed
from appliance.domain.plan import PlannedTask
from appliance.ports import Emit, IsCanceled, PlayRequest, PlayResult

KEPT_RUNS = 5
_PLUGINS = Path(__file__).with_name("plugins")
_POLL_S = 0.25
_STRATEGY = {
    "ANSIBLE_STRATEGY": "mitogen_linear",
    "ANSIBLE_STRATEGY_PLUGINS": str(distribution("mitogen").locate_file("ansible_mitogen/plugins/strategy")),
    "ANSIBLE_DEPRECATION_WARNINGS": "False",  # of strategies that Ansible does not ship; ansible-core is pinned
}
"""Mitogen keeps one Python on the node for the whole play, where Ansible starts one for each task (ADR 0013)."""
_INTERRUPTED = 99
"""ansible-playbook's exit status after an interruption; here only `stop_between_tasks` interrupts."""


class AnsibleRunner:
    """Runs playbooks in `folder`, which keeps the artifacts of the last few runs.

    Args:
        folder: private to this object, made with mode 0700 on the first run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, request: PlayRequest, *, emit: Emit, is_canceled: IsCanceled) -> PlayResult:
        """Run a playbook to its end; blocks, and calls `emit` in the calling thread.

        Raises PlaybookFailed with role, task and message; Canceled when asked to stop.
        """
        run = _Run(folder=self._folder, request=request)
        with run.prepared():
            return run.play(emit=emit, is_canceled=is_canceled)

    def predict(self, request: PlayRequest, *, emit: Emit, is_canceled: IsCanceled) -> tuple[PlannedTask, ...]:
        """Try a playbook with `--check --diff`; changes nothing on the node, and emits how far it is.

        Raises PlaybookFailed where a check of the playbook refuses the node; Canceled when asked to stop.
        """
        run = _Run(folder=self._folder, request=request, predictions=Predictions())
        with run.prepared():
            run.play(emit=lambda event: emit(event) if isinstance(event, Progressed) else None, is_canceled=is_canceled)
            return run.predicted()


class _Run:
    """One run: its files, its environment, its end."""

    def __init__(self, *, folder: Path, request: PlayRequest, predictions: Predictions | None = None) -> None:
        self._folder = folder
        self._request = request
        self._predictions = predictions
        self._ident = uuid4().hex
        self._inputs = folder / "inputs" / self._ident
        self._stop_file = self._inputs / "stop"
        self._count_file = self._inputs / "count"

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Give the run its files, and take them away after it."""
        self._prepare()
        try:
            yield
        finally:
            shutil.rmtree(self._inputs, ignore_errors=True)

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self._folder / "inputs", ignore_errors=True)  # of runs that were killed
        self._inputs.mkdir(mode=0o700, parents=True)
        _write(self._inputs / "inventory.json", self._request.inventory)
        _write(self._inputs / "variables.json", self._request.variables)
        (self._inputs / "ansible.cfg").write_text("")  # stands for content without one: else the site's would hold

    def predicted(self) -> tuple[PlannedTask, ...]:
        """Return what the run in check mode found; raises PlaybookFailed where a check refused."""
        found = self._predictions or Predictions()
        if found.refusal is not None:
            raise _task_failed(found.refusal)
        return tuple(found.tasks)

    def play(self, *, emit: Emit, is_canceled: IsCanceled) -> PlayResult:
        if is_canceled():
            raise _canceled()
        translation = Translation(step=self._request.step)

        refused: list[BaseException] = []

        def handle(raw: dict[str, Any]) -> bool:
            try:
                if self._predictions is not None:
                    self._predictions.take(raw)
                translation.total = translation.total or self._count()
                for event in translation.events(raw):
                    if not refused:
                        emit(event)
            except BaseException as error:  # noqa: BLE001  raised again below, once no task runs any more
                refused.append(error)
            return True

        with self._watching(lambda: bool(refused) or is_canceled()):
            runner = self._ansible(handle)
        if refused:
            raise refused[0]
        return self._end(runner, translation)

    @contextmanager
    def _watching(self, is_canceled: IsCanceled) -> Iterator[None]:
        """Turn a request to stop into the file that the plugin looks for, whatever Ansible does meanwhile."""
        over = Event()

        def watch() -> None:
            while not over.wait(_POLL_S):
                if is_canceled():
                    self._stop_file.touch()
                    return

        watcher = Thread(target=watch, name="playbook-stop", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _ansible(self, handle: Callable[[dict[str, Any]], bool]) -> ansible_runner.Runner:
        trying = "" if self._predictions is None else " --check --diff -v"
        return ansible_runner.run(
            private_data_dir=str(self._folder),
            project_dir=str(self._request.playbooks),
            ident=self._ident,
            rotate_artifacts=KEPT_RUNS,
            playbook=self._request.playbook,
            inventory=str(self._inputs / "inventory.json"),
            cmdline=f"--extra-vars @{self._inputs / 'variables.json'}{trying}",
            tags=",".join(self._request.tags) or None,
            envvars=self._environment(),
            suppress_env_files=True,  # else they are written down and reused by the next run
            fact_cache=str(self._folder / "facts" / self._ident),
            quiet=True,
            event_handler=handle,
            cancel_callback=_never,  # to cancel is to kill, which leaves the running command on the node
        )

    def _end(self, runner: ansible_runner.Runner, translation: Translation) -> PlayResult:
        shutil.rmtree(self._folder / "facts", ignore_errors=True)
        if runner.rc == 0:
            return translation.result()
        if runner.rc == _INTERRUPTED and self._stop_file.exists():
            raise _canceled()
        raise self._failed(runner, translation)

    def _failed(self, runner: ansible_runner.Runner, translation: Translation) -> PlaybookFailed:
        failure = translation.failure
        if failure is None:
            output = Path(runner.config.artifact_dir, "stdout")
            tail = output.read_text(errors="replace")[-1500:].strip() if output.exists() else ""
            return PlaybookFailed(
                detail=f"ansible-playbook ended with status {runner.rc} before any task failed. It said: {tail}",
                remedy="Import the release again, then run `leeward provision`.",
            )
        return _task_failed(failure)

    def _count(self) -> int:
        """Return how many tasks the plugin has counted; zero before it has."""
        try:
            return int(self._count_file.read_text(encoding="utf-8") or 0)
        except FileNotFoundError:
            return 0

    def _environment(self) -> dict[str, str]:
        content = self._request.playbooks / "ansible.cfg"
        return {
            # ansible-playbook lies beside this interpreter, which need not be on the daemon's path.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}",
            "ANSIBLE_CONFIG": str(content if content.exists() else self._inputs / "ansible.cfg"),
            "ANSIBLE_HOME": str(self._folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self._folder / "home" / "tmp"),
            # Of this runner's own: a connection that is kept open is found by address, port and user alone.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self._folder / "home" / "cp"),
            "ANSIBLE_PIPELINING": "True",
            **_STRATEGY,
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_CALLBACK_PLUGINS": str(_PLUGINS),
            "ANSIBLE_CALLBACKS_ENABLED": "stop_between_tasks",
            "ANSIBLE_NOCOLOR": "True",
            "LC_ALL": "C.UTF-8",
            "LEEWARD_STOP_FILE": str(self._stop_file),
            "LEEWARD_COUNT_FILE": str(self._count_file),
        }


def _write(path: Path, value: Mapping[str, object]) -> None:
    path.touch(mode=0o600)
    path.write_text(json.dumps(value), encoding="utf-8")


def _task_failed(failure: TaskFailure) -> PlaybookFailed:
    where = f"role {failure.role}, task {failure.task!r}" if failure.role else f"task {failure.task!r}"
    return PlaybookFailed(
        detail=f"{where}, on {failure.host}: {failure.message}",
        remedy="Mend what the message names, then run `leeward provision`; it goes on where this ended.",
    )


def _never() -> bool:
    return False


def _canceled() -> Canceled:
    return Canceled(
        detail="The play ended between two tasks; what was done stays.",
        remedy="Run `leeward provision` to go on.",
    )
