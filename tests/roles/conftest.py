"""One node for all role tests, with a small slot and a stand-in appliance on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest
import testinfra
from testinfra.host import Host

from appliance.adapters.ansible import AnsibleRunner
from appliance.domain.events import Event, LogLine, TaskFinished
from appliance.domain.plan import PlannedTask
from appliance.domain.provision import PLAYBOOK, SshAccess, ssh_inventory
from appliance.ports import PlayRequest, PlayResult
from appliance.services.steps.plan import TAGS
from bundles.sources import SourceContext, make_source
from tests.lab import Lab, Node
from tests.roles.inventory_of_node import Seen, seen_on
from tests.roles.namespaces import inside
from tests.roles.slot import SLOT, make_slot

CHECKOUT = Path(__file__).resolve().parents[2]
SLOT_PATH = f"/var/lib/leeward/slots/{SLOT}"
APPLIANCE = "/opt/leeward/appliance/26.11.0"
ENGINE_ARGUMENTS = ["serve", "--uds", "/run/leeward-engine/engine.sock", "--json", '{"a b": "$x %y"}']
PROGRAMS = ("leeward", "leewardd", "leeward-console", "leeward-gateway", "leeward-sign-in")


@dataclass(kw_only=True)
class Site:
    """A node and what is needed to apply the playbooks to it from the controller."""

    node: Node
    runner: AnsibleRunner
    inventory: dict[str, object]
    variables: dict[str, object]
    events: list[Event] = field(default_factory=list)
    before: Seen = field(default_factory=dict)
    """What the node was before anything was applied."""

    def apply(self, *tags: str, playbook: str = PLAYBOOK, until: str = "", **variables: object) -> PlayResult:
        """Apply a playbook over SSH, to its end or until a task of that name ended; `events` holds what was told."""
        self.events.clear()
        request = self._request(playbook, tags, variables)
        return self.runner.run(request, emit=self.events.append, is_canceled=lambda: self._has_ended(until))

    def plan(self) -> tuple[PlannedTask, ...]:
        """Try site.yml as the step `plan` does."""
        return self.runner.predict(self._request(PLAYBOOK, TAGS, {}), emit=lambda _: None, is_canceled=lambda: False)

    def _request(self, playbook: str, tags: tuple[str, ...], variables: Mapping[str, object]) -> PlayRequest:
        return PlayRequest(
            playbooks=CHECKOUT / "playbooks",
            playbook=playbook,
            inventory=self.inventory,
            variables={**self.variables, **variables},
            tags=tags,
        )

    def _has_ended(self, task: str) -> bool:
        return any(isinstance(event, TaskFinished) and event.task == task for event in self.events)

    def seconds_by_role(self) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for event in self.events:
            if isinstance(event, TaskFinished):
                seconds[event.role] = seconds.get(event.role, 0.0) + event.duration_s
        return seconds

    def lines(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, LogLine)]

    @property
    def host(self) -> Host:
        """The node as testinfra sees it, over SSH."""
        shell = self.node.shell
        config = self.node.folder / "ssh_config"
        config.write_text(
            f"Host {self.node.name}\n  HostName {self.node.address}\n  User root\n  IdentityFile {shell.key}\n"
            f"  UserKnownHostsFile {shell.known_hosts}\n  StrictHostKeyChecking yes\n"
        )
        return testinfra.get_host(f"ssh://{self.node.name}", ssh_config=str(config))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node that has what bootstrap and import leave behind; nothing is applied to it yet.

    For one module at a time: until it ends, this process is in the controller's namespace, without a network.
    """
    folder = tmp_path_factory.mktemp("site")
    make_slot(folder / "slot")
    packages = folder / "slot/os/debian-12"
    packages.mkdir(parents=True)
    context = SourceContext(recipe_folder=CHECKOUT, cache=CHECKOUT / ".cache", progress=lambda *_: None)
    make_source({"kind": "debian", "suite": "bookworm", "driver": False}, context).fetch(packages)
    with Lab(folder / "lab") as lab:
        node = lab.create("roles")
        node.up()
        node.copy_to(folder / "slot", SLOT_PATH)
        put_appliance(node)
        with inside(node.exec_prefix[-1]):
            site = site_of(node, folder)
            site.before = seen_on(node)
            node.ssh("install -D -m 0600 /dev/null /etc/leeward/sign-in.toml")  # the site's decision
            yield site


def site_of(node: Node, folder: Path) -> Site:
    access = SshAccess(
        address=node.address,
        user="root",
        private_key=PurePosixPath(node.shell.key),
        known_hosts=PurePosixPath(node.shell.known_hosts),
    )
    return Site(
        node=node,
        runner=AnsibleRunner(folder / "runner"),
        inventory=ssh_inventory(node.name, access),
        variables={
            "base_repository": f"{SLOT_PATH}/os/debian-12",
            "nvidia_driver_enabled": False,
            "nvidia_driver_repository": f"{SLOT_PATH}/os/debian-12",
            "engine_vllm_slot": SLOT,
            "firewall_sign_in_servers": ["192.0.2.9"],
            "engine_vllm_gpu": False,
            "engine_vllm_arguments": ENGINE_ARGUMENTS,
            "engine_vllm_environment": {"VLLM_NOTE": '100% of $HOME, "quoted"'},
        },
    )


def put_appliance(node: Node) -> None:
    for file in ("appliance/units/leewardd.service", "appliance/entrypoints/witness.py"):
        node.copy_to(CHECKOUT / file, f"{APPLIANCE}/lib/python3.11/site-packages/{file}")
    for program in PROGRAMS:
        path = f"{APPLIANCE}/bin/{program}"
        node.ssh(f"install -D -m 0755 /dev/stdin {path}", input="#!/bin/sh\nexec sleep infinity\n")
    node.ssh(f"ln -s {APPLIANCE.rpartition('/')[2]} /opt/leeward/appliance/current")
