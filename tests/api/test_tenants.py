"""Teams, keys and quotas through the management API and the command line of a real daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.client import ApplianceClient
from appliance.domain.errors import LeewardError, NotFound, NotPermitted, RequestInvalid
from appliance.domain.quotas import QuotaKind, Scope
from appliance.domain.tenancy import HolderKind, Priority
from tests.api.conftest import CHECKOUT, DaemonProcess

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(daemon: DaemonProcess) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "appliance.entrypoints.cli", "--socket", str(daemon.socket), *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)

    return run


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def acts(client: ApplianceClient) -> list[tuple[str, str, str]]:
    return [(entry.action, entry.object, entry.outcome) for entry in await client.audit(0, 100)]


async def test_what_is_set_for_a_team_is_listed_and_on_record(client: ApplianceClient) -> None:
    made = await client.set_team("desk", entity="ACME GmbH", priority=Priority.INTERACTIVE)
    issued = await client.create_key(team="desk", name="n")

    assert (made.entity, made.priority) == ("ACME GmbH", Priority.INTERACTIVE)
    assert await client.teams() == (made,)
    assert (issued.key.entity, issued.key.priority) == ("ACME GmbH", Priority.INTERACTIVE)
    assert (await acts(client))[:2] == [("team.set", "desk", "begun"), ("team.set", "desk", "succeeded")]


async def test_a_quota_is_set_listed_with_its_use_and_lifted(client: ApplianceClient) -> None:
    issued = await client.create_key(team="research", name="n")
    await client.set_quota(Scope.TEAM, "research", QuotaKind.TOKENS_PER_DAY, 1_000)
    await client.set_quota(Scope.ENTITY, "site", QuotaKind.CONCURRENCY, 7)
    await client.set_quota(Scope.KEY, issued.key.key_id, QuotaKind.REQUESTS_PER_MONTH, 3)

    listed = {use.quota.kind: use for use in await client.quotas()}
    assert {kind: use.quota.amount for kind, use in listed.items()} == {
        QuotaKind.TOKENS_PER_DAY: 1_000,
        QuotaKind.CONCURRENCY: 7,
        QuotaKind.REQUESTS_PER_MONTH: 3,
    }
    assert (listed[QuotaKind.TOKENS_PER_DAY].used, listed[QuotaKind.CONCURRENCY].used) == (0, None)
    await client.set_quota(Scope.TEAM, "research", QuotaKind.TOKENS_PER_DAY, None)
    assert len(await client.quotas()) == 2


async def test_a_quota_for_nobody_is_not_set(client: ApplianceClient) -> None:
    for scope in Scope:
        with pytest.raises(NotFound, match=f"no {scope.value} nobody"):
            await client.set_quota(scope, "nobody", QuotaKind.CONCURRENCY, 1)

    assert await client.quotas() == ()
    assert await acts(client) == []


async def test_a_key_is_replaced_with_its_terms_and_the_old_one_ends(client: ApplianceClient) -> None:
    old = await client.create_key(
        team="t", name="n", holder="Jane Doe", holder_kind=HolderKind.PERSON, networks=["10.0.0.0/8"], models=["m"]
    )

    new = await client.rotate_key(old.key.key_id, overlap_s=3_600)

    assert new.secret != old.secret
    assert (new.key.replaces, new.key.holder, new.key.networks) == (old.key.key_id, "Jane Doe", ("10.0.0.0/8",))
    first, _ = await client.keys()
    assert first.revoked_at is not None
    assert (first.revoked_at - new.key.created_at).total_seconds() == 3_600
    entries = await client.audit(0, 100)
    assert [entry.action for entry in entries] == ["key.create", "key.create", "key.rotate", "key.rotate"]
    told = json.dumps([entry.details for entry in entries], default=str)
    assert "10.0.0.0/8" in told
    assert old.secret not in told
    assert new.secret not in told


async def test_a_key_with_terms_that_are_none_is_not_made(client: ApplianceClient) -> None:
    wrong: list[dict[str, Any]] = [
        {"networks": ["10.0.0.1/8"]},
        {"holder": "Jane"},
        {"holder": " ", "holder_kind": HolderKind.PERSON},
        {"models": ["a\nb"]},
        {"models": [""]},
        {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)},
    ]
    for terms in wrong:
        with pytest.raises(RequestInvalid):
            await client.create_key(team="t", name="n", **terms)

    assert await client.keys() == ()
    assert await client.teams() == ()
    assert await acts(client) == []


async def test_only_administrators_change_tenants(daemon: DaemonProcess, client: ApplianceClient) -> None:
    daemon.roles("operator")

    with pytest.raises(NotPermitted):
        await client.set_team("t", entity="e", priority=Priority.BATCH)
    with pytest.raises(NotPermitted):
        await client.set_quota(Scope.TEAM, "t", QuotaKind.CONCURRENCY, 1)
    with pytest.raises(NotPermitted):
        await client.rotate_key("key_1")

    assert await client.teams() == ()
    assert await client.quotas() == ()
    assert await acts(client) == []


async def test_a_key_that_is_not_there_is_not_replaced(client: ApplianceClient) -> None:
    with pytest.raises(LeewardError, match="no API key"):
        await client.rotate_key("key_nobody")

    assert await client.keys() == ()


def test_the_command_line_sets_and_lists_teams_keys_and_quotas(run: Run) -> None:
    assert "ACME" in run("team", "set", "desk", "--entity", "ACME", "--priority", "batch").stdout
    made = run("key", "create", "--team", "desk", "--name", "n", "--program", "ci", "--days", "30",
               "--network", "10.0.0.0/8", "--json")  # fmt: skip
    key_id = parsed(made.stdout)[0]["key"]["key_id"]
    assert run("quota", "set", "--team", "desk", "tokens/day=2,000,000", "concurrency=4").returncode == 0
    assert run("quota", "set", "--team", "desk", "concurrency=none").returncode == 0
    replaced = run("key", "rotate", key_id)

    assert replaced.stdout.startswith("lwd_")
    assert "batch" in run("team", "list").stdout
    quotas = run("quota", "list").stdout.splitlines()
    assert len(quotas) == 2
    assert "2,000,000" in quotas[1]
    keys = run("key", "list").stdout
    assert keys.count("10.0.0.0/8") == keys.count("ci") == 2


@pytest.mark.parametrize(
    "words",
    [
        ("quota", "set", "--team", "t", "tokens/year=5"),
        ("quota", "set", "--team", "t", "concurrency"),
        ("quota", "set", "--team", "t", "--entity", "e", "concurrency=1"),
        ("quota", "set", "concurrency=1"),
        ("key", "create", "--team", "t", "--name", "n", "--person", "a", "--program", "b"),
    ],
)
def test_what_is_not_understood_changes_nothing(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "appliance.entrypoints.cli", "--socket", "/nonexistent", *words]

    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)

    assert done.returncode == 2
    assert "Usage" in done.stderr
