from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
import yaml

from appliance.domain.provision import GROUP, PLAYBOOK, SshAccess, local_inventory, ssh_inventory

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"


def host(inventory: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = inventory[GROUP]["hosts"]["n1"]  # type: ignore[index]  # Ansible's own structure
    return found


def test_the_playbook_is_for_the_group_that_the_inventory_names() -> None:
    (play,) = yaml.safe_load((PLAYBOOKS / PLAYBOOK).read_text())

    assert play["hosts"] == GROUP


def test_the_local_node_is_reached_without_ssh_and_with_debians_own_python() -> None:
    assert host(local_inventory("n1")) == {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/usr/bin/python3",
    }


@pytest.mark.parametrize(("user", "become"), [("root", False), ("admin", True)])
def test_another_node_is_reached_with_its_host_key_pinned(user: str, *, become: bool) -> None:
    access = SshAccess(address="192.0.2.1", user=user, private_key=PurePosixPath("/k"), known_hosts=PurePosixPath("/h"))

    variables = host(ssh_inventory("n1", access))

    assert variables["ansible_become"] is become
    assert "StrictHostKeyChecking=yes" in str(variables["ansible_ssh_common_args"])


def test_every_variable_of_a_role_carries_its_prefix_and_is_described() -> None:
    for role in (PLAYBOOKS / "roles").iterdir():
        described = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
        defaults = yaml.safe_load((role / "defaults/main.yml").read_text())

        assert set(defaults) <= set(described), role.name
        assert all(name.startswith(f"{role.name}_") for name in described), role.name
        assert all(described[name].get("default", defaults[name]) == defaults[name] for name in defaults), role.name


def test_content_uses_only_what_ansible_core_brings() -> None:
    named = {
        name
        for folder in ("tasks", "handlers")
        for path in (PLAYBOOKS / "roles").glob(f"*/{folder}/*.yml")
        for name in re.findall(r"^\s*([a-z_]+\.[a-z_]+\.[a-z_]+):", path.read_text(), flags=re.MULTILINE)
    }

    assert {"ansible.builtin.apt", "ansible.builtin.template"} <= named
    assert all(name.startswith("ansible.builtin.") for name in named)
