from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.adapters.ansible import AnsibleRunner
from appliance.domain.errors import Canceled, PlaybookFailed
from appliance.domain.events import Event, LogLine, Progressed, TaskFinished, TaskOutcome, TaskStarted
from appliance.domain.provision import local_inventory
from appliance.ports import PlayRequest, PlayResult


class Play:
    """A playbook of one role in a scratch folder, run by the adapter on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = AnsibleRunner(folder / "runner")
        self.events: list[Event] = []

    def run(
        self,
        tasks: str,
        *,
        variables: dict[str, object] | None = None,
        tags: tuple[str, ...] = (),
        is_canceled: Callable[[], bool] = lambda: False,
    ) -> PlayResult:
        role = self.folder / "playbooks/roles/small/tasks"
        role.mkdir(parents=True, exist_ok=True)
        (role / "main.yml").write_text(tasks)
        (self.folder / "playbooks/site.yml").write_text(
            "- hosts: leeward_nodes\n  gather_facts: false\n  roles: [small]\n"
        )
        inventory = local_inventory("n1")
        request = PlayRequest(
            playbooks=self.folder / "playbooks",
            playbook="site.yml",
            inventory=inventory,
            variables=variables or {},
            tags=tags,
        )
        return self.runner.run(request, emit=self.emit, is_canceled=is_canceled)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def outcomes(self) -> list[tuple[str, TaskOutcome]]:
        return [(event.task, event.outcome) for event in self.events if isinstance(event, TaskFinished)]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def test_each_task_tells_its_outcome_and_the_bar_ends_at_its_total(play: Play) -> None:
    result = play.run(
        """
- name: Something is read
  ansible.builtin.command: "true"
  changed_when: false
- name: Something is made
  ansible.builtin.command: "true"
  changed_when: true
- name: Something is left out
  ansible.builtin.command: "true"
  when: false
- name: Something may fail
  ansible.builtin.command: "false"
  ignore_errors: true
"""
    )

    assert result == PlayResult(ok=3, changed=2, skipped=1, failed=0, rescued=0, ignored=1)
    assert play.outcomes() == [
        ("Something is read", TaskOutcome.OK),
        ("Something is made", TaskOutcome.CHANGED),
        ("Something is left out", TaskOutcome.SKIPPED),
        ("Something may fail", TaskOutcome.IGNORED),
    ]
    assert {event.role for event in play.events if isinstance(event, TaskStarted)} == {"small"}
    progress = [(event.done, event.total) for event in play.events if isinstance(event, Progressed)]
    assert progress == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_failed_task_raises_its_role_name_and_message(play: Play) -> None:
    with pytest.raises(PlaybookFailed) as failed:
        play.run(
            """
- name: The disk is there
  ansible.builtin.fail:
    msg: no disk was found
- name: The disk is used
  ansible.builtin.command: touch {{ playbook_dir }}/used
"""
        )

    assert "role small, task 'The disk is there', on n1: no disk was found" in failed.value.detail
    assert "leeward provision" in failed.value.remedy
    assert not (play.folder / "playbooks/used").exists()
    assert play.events[-1] == LogLine(text="small: The disk is there: no disk was found")


def test_what_a_failed_command_said_is_part_of_the_message(play: Play) -> None:
    with pytest.raises(PlaybookFailed) as failed:
        play.run('- name: It runs\n  ansible.builtin.command: sh -c "echo bad sector >&2; exit 3"\n')

    assert "bad sector" in failed.value.detail


def test_a_rescued_failure_is_told_but_does_not_fail_the_play(play: Play) -> None:
    result = play.run(
        """
- block:
    - name: The first way is tried
      ansible.builtin.command: "false"
  rescue:
    - name: The second way works
      ansible.builtin.command: "true"
      changed_when: false
"""
    )

    assert (result.failed, result.rescued) == (0, 1)
    assert ("The first way is tried", TaskOutcome.FAILED) in play.outcomes()
    assert ("The second way works", TaskOutcome.OK) in play.outcomes()


def test_a_withheld_result_shows_nothing_of_the_secret(play: Play) -> None:
    with pytest.raises(PlaybookFailed) as failed:
        play.run(
            """
- name: A secret is used
  ansible.builtin.command: sh -c "echo {{ secret }} >&2; false"
  no_log: true
""",
            variables={"secret": "hunter2"},
        )

    assert "withheld" in failed.value.detail
    assert "hunter2" not in repr((failed.value.detail, play.events))
    written = [path for path in (play.folder / "runner").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if "hunter2" in path.read_text(errors="replace")]


def test_variables_of_one_run_do_not_reach_the_next(play: Play) -> None:
    show = "- name: It is read\n  ansible.builtin.assert:\n    that: colour is {}defined\n"
    play.run(show.format(""), variables={"colour": "green"})

    result = play.run(show.format("not "))

    assert result.failed == 0


def test_a_request_to_stop_lets_the_running_task_end_and_starts_no_other(play: Play) -> None:
    canceled = threading.Event()

    def emit_then_cancel() -> None:
        while not any(isinstance(event, TaskStarted) for event in play.events):
            time.sleep(0.05)
        canceled.set()

    asking = threading.Thread(target=emit_then_cancel, daemon=True)
    asking.start()
    with pytest.raises(Canceled):
        play.run(
            """
- name: The first takes a while
  ansible.builtin.command: sh -c "sleep 3; touch {{ playbook_dir }}/first"
- name: The second would follow
  ansible.builtin.command: touch {{ playbook_dir }}/second
""",
            is_canceled=canceled.is_set,
        )
    asking.join()

    assert (play.folder / "playbooks/first").exists()
    assert not (play.folder / "playbooks/second").exists()
    assert play.outcomes() == [("The first takes a while", TaskOutcome.CHANGED)]


def test_a_journal_that_refuses_an_event_ends_the_play_between_two_tasks(play: Play) -> None:
    class DiskFull(Exception):
        pass

    def refuse(event: Event) -> None:
        raise DiskFull(event)

    play.emit = refuse  # type: ignore[method-assign]  # stands for a full disk below the journal
    with pytest.raises(DiskFull):
        play.run(
            """
- name: The first takes a while
  ansible.builtin.command: sh -c "sleep 2; touch {{ playbook_dir }}/first"
- name: The second would follow
  ansible.builtin.command: touch {{ playbook_dir }}/second
"""
        )

    assert (play.folder / "playbooks/first").exists()
    assert not (play.folder / "playbooks/second").exists()


def test_a_request_to_stop_before_the_first_task_starts_nothing(play: Play) -> None:
    with pytest.raises(Canceled):
        play.run("- ansible.builtin.command: touch {{ playbook_dir }}/made\n", is_canceled=lambda: True)

    assert play.events == []
    assert not (play.folder / "playbooks/made").exists()


def test_a_play_that_does_not_parse_fails_with_what_ansible_said(play: Play) -> None:
    with pytest.raises(PlaybookFailed) as failed:
        play.run("- name: Broken\n  ansible.builtin.no_such_module: {}\n")

    assert "no_such_module" in failed.value.detail


def test_only_the_tasks_of_the_asked_tags_run_and_count(play: Play) -> None:
    result = play.run(
        """
- name: It is checked
  ansible.builtin.command: "true"
  changed_when: false
  tags: [precheck]
- name: It is made
  ansible.builtin.command: touch {{ playbook_dir }}/made
  tags: [install]
""",
        tags=("precheck",),
    )

    assert result.ok == 1
    assert [event.total for event in play.events if isinstance(event, Progressed)] == [1, 1]
    assert not (play.folder / "playbooks/made").exists()


def test_only_the_artifacts_of_the_last_runs_are_kept(play: Play) -> None:
    for _ in range(7):
        play.run("- name: It is read\n  ansible.builtin.debug:\n    msg: x\n")

    kept = list((play.folder / "runner/artifacts").iterdir())
    assert 1 <= len(kept) <= 6
    assert not list((play.folder / "runner/inputs").iterdir())
    assert not (play.folder / "runner/env").exists()
