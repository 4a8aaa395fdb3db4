"""The watch: audit log first, then the record; killed between the two, nothing is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.adapters.clock import SystemClock
from appliance.adapters.host.egress_record import EgressRecordFile
from appliance.adapters.sql import Database, SqlAuditLog
from appliance.domain.egress import EgressReading, Try
from appliance.domain.errors import StateUnusable
from appliance.services.egress import EgressWatch

NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Counted:
    def __init__(self) -> None:
        self.tries: tuple[Try, ...] = ()

    def read(self, cursor: str | None) -> EgressReading:
        return EgressReading(counted=self.tries, seen=(), cursor=cursor, missing=())


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = Counted()
        self.database = Database.open(folder / "leeward.db")
        self.audit = SqlAuditLog(self.database, SystemClock())

    def watch(self) -> EgressWatch:
        store = EgressRecordFile(self.folder / "egress.json")
        return EgressWatch(source=self.source, store=store, audit=self.audit, clock=SystemClock())

    def acts(self) -> list[tuple[str, str, str]]:
        return [(entry.actor, entry.action, entry.object) for entry in self.audit.entries()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def some(count: int) -> tuple[Try, ...]:
    return (Try(account="leeward-engine", protocol="tcp", destination="192.0.2.7:443", count=count),)


def test_a_quiet_node_has_one_entry_that_counting_began(world: World) -> None:
    watch = world.watch()

    watch.look()
    seen = watch.look()

    assert (seen.ours, seen.others) == (0, 0)
    assert world.acts() == [("leewardd", "egress.count", "node")]
    assert watch.alerts() == ()


def test_a_new_destination_is_in_the_audit_log_once_and_outlives_the_daemon(world: World) -> None:
    world.source.tries = some(1)
    world.watch().look()
    world.source.tries = some(7)

    again = world.watch()
    seen = again.look()

    assert seen.ours == 7
    assert world.acts()[1:] == [("leeward-engine", "egress.attempt", "tcp 192.0.2.7:443")]
    assert [alarm.code for alarm in again.alerts()] == ["egress-attempt"]


def test_a_record_that_cannot_be_kept_leaves_the_try_in_the_audit_log(world: World) -> None:
    watch = world.watch()
    watch.look()
    (world.folder / "egress.json.new").mkdir()
    world.source.tries = some(1)

    with pytest.raises(StateUnusable):
        watch.look()
    (world.folder / "egress.json.new").rmdir()
    seen = watch.look()

    assert seen.ours == 1
    assert ("leeward-engine", "egress.attempt", "tcp 192.0.2.7:443") in world.acts()


def test_a_damaged_record_is_set_aside_and_counting_begins_anew(world: World) -> None:
    world.watch().look()
    (world.folder / "egress.json").write_text("{")

    world.watch().look()

    assert (world.folder / "egress.damaged").read_text() == "{"
    assert [action for _, action, _ in world.acts()] == ["egress.count", "egress.count"]


def test_the_record_is_for_root_alone(world: World) -> None:
    world.watch().look()

    assert (world.folder / "egress.json").stat().st_mode & 0o777 == 0o600
