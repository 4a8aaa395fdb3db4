"""What a play would do, tried with Ansible itself on this machine: nothing of it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.adapters.ansible import AnsibleRunner
from appliance.domain.errors import PlaybookFailed
from appliance.domain.events import Event, Progressed
from appliance.domain.plan import PlannedTask, Prediction
from appliance.domain.provision import local_inventory
from appliance.ports import PlayRequest

TASKS = """
- name: A file holds two lines
  ansible.builtin.copy:
    content: "one\\nthree\\n"
    dest: "{{ playbook_dir }}/made"
    mode: "0644"
- name: A file is there already
  ansible.builtin.stat:
    path: "{{ playbook_dir }}/made"
- name: A program makes something
  ansible.builtin.command: touch {{ playbook_dir }}/touched
  register: touched
  changed_when: true
- name: What the program said is used
  ansible.builtin.debug:
    msg: "{{ touched.stdout_lines[0] }}"
- name: Programs make things
  ansible.builtin.command: touch {{ playbook_dir }}/{{ item }}
  loop: [touched, touched-too]
- name: This is for other nodes
  ansible.builtin.command: "true"
  when: false
- name: A secret is written
  ansible.builtin.copy:
    content: hidden
    dest: "{{ playbook_dir }}/secret"
    mode: "0600"
  no_log: true
"""


def tried(folder: Path, tasks: str) -> tuple[tuple[PlannedTask, ...], list[Event]]:
    role = folder / "playbooks/roles/small/tasks"
    role.mkdir(parents=True)
    (role / "main.yml").write_text(tasks)
    (folder / "playbooks/made").write_text("one\ntwo\n")
    (folder / "playbooks/site.yml").write_text(
        "- hosts: leeward_nodes\n  gather_facts: false\n  any_errors_fatal: true\n"
        '  ignore_errors: "{{ ansible_check_mode }}"\n  roles: [small]\n'
    )
    request = PlayRequest(
        playbooks=folder / "playbooks", playbook="site.yml", inventory=local_inventory("n1"), variables={}
    )
    events: list[Event] = []
    return AnsibleRunner(folder / "runner").predict(request, emit=events.append, is_canceled=lambda: False), events


def test_each_task_says_what_it_would_do_and_nothing_is_done(tmp_path: Path) -> None:
    tasks, events = tried(tmp_path, TASKS)

    found = {task.task: task for task in tasks}
    assert [(task.task, task.prediction) for task in tasks] == [
        ("A file holds two lines", Prediction.CHANGES),
        ("A file is there already", Prediction.UNCHANGED),
        ("A program makes something", Prediction.NOT_PREDICTABLE),
        ("What the program said is used", Prediction.NOT_PREDICTABLE),
        ("Programs make things", Prediction.NOT_PREDICTABLE),
        ("A secret is written", Prediction.NOT_PREDICTABLE),
    ]
    assert found["A file holds two lines"].detail.splitlines() == [f"{tmp_path}/playbooks/made", "- two", "+ three"]
    assert found["A program makes something"].detail == "a command, which would run"
    assert "tasks ahead of it" in found["What the program said is used"].detail
    assert found["A secret is written"].detail == "withheld, as it may hold a secret (no_log)"
    assert {task.role for task in tasks} == {"small"}
    assert {type(event) for event in events} == {Progressed}
    assert (tmp_path / "playbooks/made").read_text() == "one\ntwo\n"
    assert not (tmp_path / "playbooks/touched").exists()
    assert not (tmp_path / "playbooks/secret").exists()


def test_a_node_that_the_play_would_refuse_gets_no_plan(tmp_path: Path) -> None:
    refusing = "\n- name: The node is fit\n  ansible.builtin.assert:\n    that: false\n    fail_msg: it is too small\n"

    with pytest.raises(PlaybookFailed) as refused:
        tried(tmp_path, refusing + TASKS)

    assert "role small, task 'The node is fit', on n1: it is too small" in refused.value.detail
    assert (tmp_path / "playbooks/made").read_text() == "one\ntwo\n"
