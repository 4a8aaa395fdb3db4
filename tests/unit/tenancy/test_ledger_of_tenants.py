from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from appliance.adapters.sql_ledger import (
    KeyLookup,
    LedgerWriter,
    SqlKeyRegister,
    SqlTenancyRegister,
    SqlUsageReader,
    create_ledger,
    database,
    open_ledger,
)
from appliance.domain.errors import NotFound
from appliance.domain.quotas import EarlierUse, Quota, QuotaKind, Scope
from appliance.domain.tenancy import HolderKind, KeyTerms, Priority, is_within, networks_of
from appliance.domain.usage import (
    UNKNOWN_USAGE,
    Admission,
    ApiKey,
    Settlement,
    TokenUsage,
    UsageOutcome,
    UsageSource,
    UsageState,
    new_request_id,
)

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    path: Path
    engine: Engine
    keys: SqlKeyRegister
    tenancy: SqlTenancyRegister

    def lookup(self, at: datetime) -> KeyLookup:
        return KeyLookup(self.engine, now=lambda: at)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    path = tmp_path / "ledger.db"
    create_ledger(path, os.getuid(), os.getgid())
    engine = open_ledger(path)
    yield Ledger(path=path, engine=engine, keys=SqlKeyRegister(engine), tenancy=SqlTenancyRegister(engine))
    engine.dispose()


def admission(key_id: str, team: str, at: datetime) -> Admission:
    return Admission(
        request_id=new_request_id(at, os.urandom(10)),
        key_id=key_id,
        team=team,
        model="m",
        endpoint="/v1/chat/completions",
        stream=False,
        admitted_at=at,
    )


def settlement(request_id: str, *, tokens: int | None, charged: int | None) -> Settlement:
    usage = UNKNOWN_USAGE if tokens is None else TokenUsage(prompt_tokens=1, completion_tokens=tokens - 1)
    return Settlement(
        request_id=request_id,
        state=UsageState.PARTIAL,
        settled_at=NOW,
        first_token_at=None,
        http_status=499,
        outcome=UsageOutcome.CLIENT_CLOSED,
        finish_reason=None,
        usage=usage,
        usage_source=UsageSource.NONE,
        charged_tokens=charged,
    )


def _old_ledger(path: Path) -> None:
    """Make a ledger of the first schema, with two keys and a closed and an open record."""
    path.touch()
    engine = database.open_engine(path)
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "ledger_0001")
    engine.dispose()
    with sqlite3.connect(path) as raw:
        for number, team in enumerate(("research", "sales")):
            row = (f"key_{number}", "n", team, "lwd_aaaa", f"{number}" * 64, 10 + number)
            raw.execute("INSERT INTO api_key VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
        for letter in "ab":
            raw.execute(
                "INSERT INTO usage_record (request_id, boot_id, state, key_id, team, model, endpoint, stream,"
                " admitted_at_us, outcome, usage_source) VALUES (?, 'old', 'admitted', 'key_0', 'research', 'm', 'e',"
                " 0, 5, 'in_flight', 'none')",
                (letter * 36,),
            )
        raw.execute(
            "UPDATE usage_record SET state = 'settled', usage_source = 'final', settled_at_us = 6, prompt_tokens = 3,"
            " completion_tokens = 4, outcome = 'completed' WHERE request_id = ?",
            ("a" * 36,),
        )
    raw.close()


def test_an_old_ledger_is_brought_up_to_date_and_every_row_stays(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    _old_ledger(path)
    with sqlite3.connect(path) as raw:
        before = [raw.execute(f"SELECT * FROM {table}").fetchall() for table in ("api_key", "usage_record")]  # noqa: S608  two names
    raw.close()

    create_ledger(path, os.getuid(), os.getgid())
    create_ledger(path, os.getuid(), os.getgid())

    with sqlite3.connect(path) as raw:
        after = [raw.execute(f"SELECT * FROM {table}").fetchall() for table in ("api_key", "usage_record")]  # noqa: S608  two names
    raw.close()
    assert [[row[: len(old[0])] for row in new] for old, new in zip(before, after, strict=True)] == before
    engine = open_ledger(path)
    keys = SqlKeyRegister(engine).keys()
    assert [(key.team, key.entity, key.priority) for key in keys] == [
        ("research", "site", Priority.STANDARD),
        ("sales", "site", Priority.STANDARD),
    ]
    assert SqlUsageReader(engine).counts() == (2, 1)
    used = SqlTenancyRegister(engine).earlier_use(datetime(1970, 1, 1, tzinfo=UTC), except_boot_id="new")
    assert used == [EarlierUse(key_id="key_0", team="research", requests=2, tokens=7)]
    engine.dispose()


def test_a_key_is_good_until_it_expires_and_not_after(ledger: Ledger) -> None:
    key, secret = ledger.keys.create(name="n", team="t", at=NOW, terms=KeyTerms(expires_at=NOW + HOUR))

    assert ledger.lookup(NOW + HOUR - timedelta(microseconds=1)).find(secret) == key
    assert ledger.lookup(NOW + HOUR).find(secret) is None


def test_a_keys_terms_come_back_as_they_were_given(ledger: Ledger) -> None:
    terms = KeyTerms(
        holder="Jane Doe",
        holder_kind=HolderKind.PERSON,
        models=("a", "b"),
        networks=("10.1.0.0/16", "fd00::/8"),
    )

    key, secret = ledger.keys.create(name="n", team="t", at=NOW, terms=terms)

    assert ledger.keys.keys() == [key]
    assert ledger.lookup(NOW).find(secret) == key
    assert (key.holder, key.holder_kind) == ("Jane Doe", HolderKind.PERSON)
    assert (key.models, key.networks) == (terms.models, terms.networks)


@pytest.mark.parametrize("network", ["10.1.0.1/16", "10.0.0.0/33", "everywhere", ""])
def test_a_network_that_is_none_makes_no_key(network: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        KeyTerms(networks=(network,))


def test_an_address_is_judged_by_what_it_is_and_not_by_how_it_is_written() -> None:
    networks = networks_of(("10.1.0.0/16", "fd00::/8"))

    assert is_within("10.1.255.255", networks)
    assert is_within("::ffff:10.1.0.9", networks)
    assert is_within("fd12::1", networks)
    assert not is_within("10.2.0.1", networks)
    assert not is_within("::1", networks)
    assert not is_within("", networks)


def test_a_replaced_key_ends_when_it_was_said_and_can_be_ended_before(ledger: Ledger) -> None:
    terms = KeyTerms(models=("a",), networks=("10.0.0.0/8",), expires_at=NOW + 9 * HOUR)
    old, old_secret = ledger.keys.create(name="ci", team="t", at=NOW, terms=terms)

    new, new_secret = ledger.keys.rotate(old.key_id, at=NOW, ends_at=NOW + HOUR)

    assert (new.replaces, new.name, new.team) == (old.key_id, "ci", "t")
    assert (new.models, new.networks, new.expires_at) == (old.models, old.networks, old.expires_at)
    assert ledger.lookup(NOW).find(new_secret) == new
    assert ledger.lookup(NOW + HOUR - timedelta(seconds=1)).find(old_secret) is not None
    assert ledger.lookup(NOW + HOUR).find(old_secret) is None
    ledger.keys.revoke(old.key_id, NOW + timedelta(seconds=1))
    assert ledger.lookup(NOW + timedelta(seconds=2)).find(old_secret) is None
    ledger.keys.revoke(old.key_id, NOW + timedelta(seconds=5))
    ended = {key.key_id: key.revoked_at for key in ledger.keys.keys()}  # noqa: SIM118  a register, not a dict
    assert ended == {old.key_id: NOW + timedelta(seconds=1), new.key_id: None}


def test_a_key_whose_use_has_ended_is_not_replaced(ledger: Ledger) -> None:
    old, _ = ledger.keys.create(name="ci", team="t", at=NOW)
    ledger.keys.revoke(old.key_id, NOW)

    with pytest.raises(NotFound, match="has ended"):
        ledger.keys.rotate(old.key_id, at=NOW + HOUR, ends_at=NOW + HOUR)

    assert len(ledger.keys.keys()) == 1


def test_a_team_stands_as_it_was_set_last_and_its_keys_with_it(ledger: Ledger) -> None:
    key, secret = ledger.keys.create(name="n", team="research", at=NOW)
    version = ledger.tenancy.version()

    ledger.tenancy.set_team("research", entity="acme", priority=Priority.BATCH, at=NOW + HOUR)

    assert ledger.tenancy.version() != version
    assert [(team.team, team.entity, team.priority) for team in ledger.tenancy.teams()] == [
        ("research", "acme", Priority.BATCH)
    ]
    found = ledger.lookup(NOW).find(secret)
    assert found is not None
    assert (found.key_id, found.entity, found.priority) == (key.key_id, "acme", Priority.BATCH)


def test_a_quota_holds_as_it_was_set_last_until_it_is_lifted(ledger: Ledger) -> None:
    first = Quota(scope=Scope.TEAM, subject="t", kind=QuotaKind.TOKENS_PER_DAY, amount=5, set_at=NOW)
    second = Quota(scope=Scope.TEAM, subject="t", kind=QuotaKind.TOKENS_PER_DAY, amount=9, set_at=NOW + HOUR)
    other = Quota(scope=Scope.ENTITY, subject="t", kind=QuotaKind.CONCURRENCY, amount=1, set_at=NOW)

    for one in (first, second, other):
        ledger.tenancy.set_quota(one)

    assert ledger.tenancy.quotas() == [other, second]
    version = ledger.tenancy.version()
    ledger.tenancy.lift_quota(Scope.TEAM, "t", QuotaKind.TOKENS_PER_DAY, NOW)
    assert ledger.tenancy.quotas() == [other]
    assert ledger.tenancy.version() != version


def test_earlier_use_is_what_was_charged_and_leaves_out_this_boot_and_older_windows(ledger: Ledger) -> None:
    key, _ = ledger.keys.create(name="n", team="t", at=NOW)
    told = [(NOW, 10, 10), (NOW, None, 700), (NOW, 30, None), (NOW - HOUR, 5_000, 5_000)]
    for boot, charges in (("old", told), ("mine", [(NOW, 1, 1)])):
        writer = LedgerWriter(ledger.path, boot_id=boot)
        writer.open()
        for at, tokens, charged in charges:
            one = admission(key.key_id, "t", at)
            writer.admit(one).result()
            writer.settle(settlement(one.request_id, tokens=tokens, charged=charged)).result()
        writer.close()

    used = ledger.tenancy.earlier_use(NOW, except_boot_id="mine")

    assert used == [EarlierUse(key_id=key.key_id, team="t", requests=3, tokens=740)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM team",
        "DELETE FROM quota",
        "UPDATE team SET priority = 'interactive'",
        "UPDATE quota SET amount = 1000000",
        "INSERT OR REPLACE INTO quota SELECT * FROM quota",
        "INSERT OR REPLACE INTO team SELECT * FROM team",
        "UPDATE api_key SET expires_at_us = NULL, revoked_at_us = 1",
        "UPDATE api_key SET networks = '', revoked_at_us = 1",
        "UPDATE api_key SET models = '', revoked_at_us = 1",
        (
            "INSERT INTO api_key SELECT 'k', name, 'nobody', prefix, hex(randomblob(32)), 1, NULL, holder, holder_kind,"
            " 1, '', '', NULL FROM api_key"
        ),
    ],
)
def test_what_was_set_cannot_be_rewritten_by_whoever_has_the_file(ledger: Ledger, statement: str) -> None:
    terms = KeyTerms(expires_at=NOW, models=("a",), networks=("10.0.0.0/8",))
    ledger.keys.create(name="n", team="t", at=NOW, terms=terms)
    quota = Quota(scope=Scope.TEAM, subject="t", kind=QuotaKind.TOKENS_PER_DAY, amount=5, set_at=NOW)
    ledger.tenancy.set_quota(quota)
    connection = sqlite3.connect(ledger.path)
    before = list(connection.iterdump())

    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    connection.rollback()

    assert list(connection.iterdump()) == before
    connection.close()


def test_no_key_is_made_that_has_a_holder_without_a_kind() -> None:
    with pytest.raises(ValueError, match="name and a kind"):
        KeyTerms(holder="Jane")


def test_keys_of_one_ledger_are_not_confused(ledger: Ledger) -> None:
    made = [ledger.keys.create(name="n", team=team, at=NOW) for team in ("a", "b")]
    ledger.tenancy.set_team("a", entity="acme", priority=Priority.INTERACTIVE, at=NOW)

    found: list[ApiKey | None] = [ledger.lookup(NOW).find(secret) for _, secret in made]

    assert [(key.team, key.entity) for key in found if key is not None] == [("a", "acme"), ("b", "site")]
