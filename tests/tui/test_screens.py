"""The screens of records: what they say, what they change, and what they leave alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from textual.pilot import Pilot

from appliance.domain.errors import LedgerUnavailable, NotPermitted
from console.app import ConsoleApp
from console.capabilities import Profile
from console.screens.pages import TextPage
from tests.support.fake_daemon import FakeDaemon
from tests.tui import records
from tests.tui.conftest import Stage, check_golden, console_on, is_golden, seen, until
from tests.tui.recorded import NOW
from tests.tui.test_flows import changes
from tests.tui.test_terminal import COLOR, NARROW, painted

VT100 = {"TERM": "vt100"}
MOST_BYTES_A_SCREEN = 2_880  # three seconds of 9600 baud


@asynccontextmanager
async def opened(
    daemon: FakeDaemon, key: str, shows: str, *, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[ConsoleApp, Pilot[None]]]:
    async with console_on(daemon, size=size, profile=Profile.SERIAL) as (app, pilot):
        await until(pilot, lambda: "GPU 2 is hot" in seen(app))
        await pilot.press(key)
        await until(pilot, lambda: shows in seen(app))
        yield app, pilot


def written(folder: Path) -> dict[str, str]:
    """Return the views that were written, by name."""
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


async def shows(pilot: Pilot[None], app: ConsoleApp, text: str) -> None:
    await until(pilot, lambda: text in seen(app))


async def fill(pilot: Pilot[None], *values: str) -> None:
    """Type each value and Enter."""
    for value in values:
        await pilot.press(*("space" if c == " " else c for c in value), "enter")


def row(app: ConsoleApp, begins: str) -> str:
    return next(line for line in seen(app).splitlines() if line.strip().startswith(begins))


# Each new screen on the slowest line that there is


async def test_screens_on_a_vt100_at_9600_baud_are_as_recorded_in_little_ascii_without_colour(on_stage: Stage) -> None:
    daemon = await on_stage("warn")
    screens = (
        ("usage-80x24-vt100", "3", "2026-11-23"),
        ("keys-80x24-vt100", "4", "nightly-batch"),
        ("passports-80x24-vt100", "5", "NOT A GPU"),
        ("compliance-80x24-vt100", "6", "engine-sandbox"),
    )

    def show() -> tuple[dict[str, str], bytes, list[int]]:
        texts, costs = {}, []
        with painted(daemon.socket, (NARROW, VT100 | {"NO_COLOR": "1"}), "GPU 2 is hot") as terminal:
            for name, key, shown in screens:
                before = len(terminal.received)
                terminal.type(key)
                terminal.until(shown)
                terminal.pump(10, enough=lambda golden=name: is_golden(golden, terminal.text()))  # type: ignore[misc]  # mypy cannot infer a lambda's default
                texts[name] = terminal.text()
                costs.append(len(terminal.received) - before)
            return texts, bytes(terminal.received), costs

    texts, received, costs = await asyncio.to_thread(show)

    for name, text in texts.items():
        check_golden(name, text)
        assert all(len(line) <= 80 for line in text.splitlines())
    assert received.isascii()
    assert COLOR.findall(received) == []
    assert max(costs) <= MOST_BYTES_A_SCREEN


# Usage


async def test_usage_of_a_day_without_a_record_is_zero_and_of_unknown_tokens_is_told(on_stage: Stage) -> None:
    async with opened(await on_stage("warn"), "3", "2026-11-22 Sun", size=(120, 36)) as (app, pilot):
        assert row(app, "| 2026-11-22 Sun").split("|")[1].split()[2:] == ["." * 44, "0", "0", "0"]
        assert "3 requests have unknown tokens; they are in no sum below." in seen(app)
        assert "2 unsettled" in seen(app)

        await pilot.press("t")
        await shows(pilot, app, "helpdesk")

        assert row(app, "| etl").split("|")[1].split()[2:] == ["61.2M", "9,120", "2", "132.60"]
        assert ">=" in row(app, "| helpdesk")
        assert ">=" not in row(app, "| etl")
        assert "??" in row(app, "| research")  # its model has no price
        assert "no price for tiny-medium" in seen(app)
        assert "9,870.00 USD a month" in seen(app)


async def test_usage_goes_to_the_month_before_and_not_beyond_the_present_one(on_stage: Stage) -> None:
    daemon = await on_stage("warn")
    async with opened(daemon, "3", "2026-11-23") as (app, pilot):
        await pilot.press("t", "left")
        await shows(pilot, app, "No request was admitted in this month.")
        assert "USAGE 2026-10 BY TEAM" in seen(app)

        await pilot.press("right", "right")
        await shows(pilot, app, "61.2M")
        assert "USAGE 2026-11 BY TEAM" in seen(app)


async def test_usage_stays_old_and_grey_where_the_ledger_is_gone(on_stage: Stage) -> None:
    daemon = await on_stage("warn")
    async with opened(daemon, "3", "2026-11-23") as (app, pilot):

        def gone(*_: object) -> object:
            raise LedgerUnavailable(detail="ledger.db is not there.", remedy="Run `leeward provision`.")

        daemon.answers["GET", "/v1/usage/sums"] = gone
        await pilot.press("r")
        await shows(pilot, app, "No new data for 0 s")

        assert "Remedy   Run `leeward provision`." in seen(app)
        assert "2026-11-23" in seen(app)


async def test_prices_that_cannot_be_read_leave_the_use_itself_on_the_screen(on_stage: Stage) -> None:
    daemon = await on_stage("warn")

    def refused(*_: object) -> object:
        raise NotPermitted(detail="j.doe is in none of leeward's groups.", remedy="Ask for leeward-auditor.")

    daemon.answers["GET", "/v1/costs"] = refused
    async with opened(daemon, "3", "2026-11-23") as (app, _):
        assert "Prices   ??: j.doe is in none of leeward's groups." in seen(app)
        assert "at list prices" not in seen(app)


# Teams and keys


async def test_new_key_shows_its_secret_once_and_never_writes_it(on_stage: Stage, tmp_path: Path) -> None:
    daemon = await on_stage("warn")
    async with opened(daemon, "4", "nightly-batch") as (app, pilot):
        app.write_to = tmp_path
        await pilot.press("n")
        await shows(pilot, app, "NEW KEY")
        assert changes(daemon) == []
        await fill(pilot, "", "chat ui", "m.roy", "", "30")
        await shows(pilot, app, records.SECRET)

        await pilot.press("w")
        await shows(pilot, app, "This page is not written to a file.")
        assert written(tmp_path) == {}
        ((path, body),) = changes(daemon)
        assert path == "/v1/keys"
        assert body == {
            "team": "etl", "name": "chat ui", "holder": "m.roy", "holder_kind": "person",
            "expires_at": (NOW + timedelta(days=30)).isoformat(), "models": [], "networks": [],
        }  # fmt: skip

        await pilot.press("escape")
        await shows(pilot, app, "chat ui")
        assert records.SECRET not in seen(app)


async def test_wrong_days_and_two_holders_make_no_key(on_stage: Stage) -> None:
    daemon = await on_stage("warn")
    async with opened(daemon, "4", "nightly-batch") as (app, pilot):
        await pilot.press("n")
        await shows(pilot, app, "NEW KEY")
        await fill(pilot, "", "x", "m.roy", "airflow", "0")
        await shows(pilot, app, "by a person or by a program, not by both")

        await pilot.press("escape")
        await shows(pilot, app, "nightly-batch")
        assert changes(daemon) == []


async def test_key_is_revoked_only_where_its_name_is_typed(on_stage: Stage) -> None:
    daemon = await on_stage("warn")
    async with opened(daemon, "4", "nightly-batch") as (app, pilot):
        await pilot.press("x")
        await shows(pilot, app, "Walk to a key that is in use first.")
        await pilot.press("down", "down", "down", "x")
        await shows(pilot, app, "Type the key's name, nightly-batch, to revoke it")
        await fill(pilot, "chat")
        await shows(pilot, app, "nothing was revoked")
        assert changes(daemon) == []

        await pilot.press(*["backspace"] * 4)
        await fill(pilot, "nightly-batch")
        await shows(pilot, app, "revoked 2026-11-23")
        assert changes(daemon) == [("/v1/keys/k0001", None)]


async def test_refused_limit_says_what_to_do_and_keeps_what_was_typed(on_stage: Stage) -> None:
    daemon = await on_stage("warn")

    def refused(*_: object) -> object:
        raise NotPermitted(detail="j.doe is not in leeward-admin.", remedy="Ask an administrator.")

    daemon.answers["PUT", "/v1/quotas"] = refused
    async with opened(daemon, "4", "nightly-batch") as (app, pilot):
        await pilot.press("u")
        await shows(pilot, app, "SET A LIMIT")
        await fill(pilot, "", "", "", "many")
        await shows(pilot, app, "The amount is a whole number, or none.")
        await pilot.press(*["backspace"] * 4)
        await fill(pilot, "2,000")
        await shows(pilot, app, "Remedy   Ask an administrator.")

        assert changes(daemon) == [
            ("/v1/quotas", {"scope": "team", "subject": "etl", "kind": "tokens/day", "amount": 2_000})
        ]
        assert "2,000" in seen(app)


# Passports and compliance


async def test_passport_shows_predicted_beside_measured_and_two_side_by_side(on_stage: Stage) -> None:
    async with opened(await on_stage("warn"), "5", "NOT A GPU") as (app, pilot):
        await pilot.press("enter")
        await shows(pilot, app, "PREDICTED AGAINST MEASURED")
        assert row(app, "throughput").split() == ["throughput", "1", "client", "120", "83", "tokens/s", "69%"]
        await pilot.press("escape", "c")
        await shows(pilot, app, "Mark two passports with Space first.")

        await pilot.press("space", "down", "space", "c")
        await shows(pilot, app, "TWO PASSPORTS")
        assert row(app, "throughput").split()[-3:] == ["tokens/s", "-20%", "WORSE"]
        assert not row(app, "kv-cache").endswith("WORSE")


async def test_passports_of_a_gpu_and_a_cpu_are_not_compared(on_stage: Stage) -> None:
    async with opened(await on_stage("warn"), "5", "NOT A GPU") as (app, pilot):
        await pilot.press("space", "end", "space", "c")
        await shows(pilot, app, "Not compared: one was measured on cpu, the other on cuda.")

        assert "CHANGE" not in seen(app)


async def test_compliance_puts_what_is_not_met_first_and_says_why_exceptions_stand(on_stage: Stage) -> None:
    async with opened(await on_stage("warn"), "6", "engine-sandbox") as (app, pilot):
        assert "1 not met, 1 unknown" in seen(app)
        assert row(app, "FAIL engine-sandbox")
        assert row(app, "??  gateway-sandbox")
        await pilot.press("down", "down", "enter")
        await shows(pilot, app, "Reason")
        assert "exception" in seen(app)

        await pilot.press("escape", "e")
        await shows(pilot, app, "192.0.2.7:53")


# Finding and writing


async def test_find_leaves_what_holds_the_text_and_esc_shows_all_again(on_stage: Stage) -> None:
    async with opened(await on_stage("warn"), "6", "engine-sandbox") as (app, pilot):
        await pilot.press("slash", *"sandbox", "enter")
        await shows(pilot, app, "Find sandbox")
        assert "apparmor" not in seen(app)
        await pilot.press("down", "enter")
        await shows(pilot, app, "gateway-sandbox")
        await pilot.press("escape")
        assert "apparmor" not in seen(app)

        await pilot.press("escape")
        await shows(pilot, app, "apparmor")


async def test_find_works_in_a_log(on_stage: Stage) -> None:
    daemon = await on_stage("importing")
    async with console_on(daemon, size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: "part 0004" in seen(app))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, TextPage) and "keys signed" in seen(app))
        await pilot.press("slash", *"0003", "enter")
        await shows(pilot, app, "1 of 5 lines")

        assert "part 0003" in seen(app)
        assert "part 0004" not in seen(app)


async def test_written_view_holds_every_line_and_what_is_simulated(on_stage: Stage, tmp_path: Path) -> None:
    async with opened(await on_stage("warn"), "6", "engine-sandbox") as (app, pilot):
        app.write_to = tmp_path
        await pilot.press("w")
        await shows(pilot, app, "Written to")
        ((name, text),) = written(tmp_path).items()

        assert name == "leeward-llm01-compliance-20261123T221403Z.txt"
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert "SIMULATED: gpus" in text
        assert all(finding.id in text for finding in records.findings())

        await pilot.press("w")  # within the same second: the file that is there stays as it is
        await shows(pilot, app, "The view could not be written")
        assert written(tmp_path) == {name: text}


async def test_health_is_written_as_it_is_seen(on_stage: Stage, tmp_path: Path) -> None:
    async with console_on(await on_stage("warn"), size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: "GPU 2 is hot" in seen(app))
        app.write_to = tmp_path
        await pilot.press("w")
        await shows(pilot, app, "Written to")
        (text,) = written(tmp_path).values()

        for words in ("WARN  GPU 2 is hot", "84 °C", "24 running, 2 waiting", "certificate until 2027-02-02"):
            assert words in text


async def test_a_thousand_keys_are_walked_to_their_end(on_stage: Stage) -> None:
    daemon = await on_stage("warn")
    many = [replace(records.keys(NOW)[0], key_id=f"m{n:04}", name=f"many-{n:04}") for n in range(1_000)]
    daemon.answers["GET", "/v1/keys"] = lambda *_: many
    async with opened(daemon, "4", "many-0000") as (app, pilot):
        await pilot.press("end")
        await shows(pilot, app, "limit tokens/month")
        await pilot.press("pageup")
        await shows(pilot, app, "many-0990")

        assert len(app.screen.query("#list .row")) < 30


async def test_what_is_typed_ahead_on_a_slow_line_reaches_its_field(on_stage: Stage) -> None:
    daemon = await on_stage("warn")

    def type_ahead() -> str:
        with painted(daemon.socket, (NARROW, VT100), "GPU 2 is hot") as terminal:
            terminal.type("4")
            terminal.until("nightly-batch")
            terminal.type("n")
            terminal.until("NEW KEY")
            terminal.type("\rchat ui\rm.roy\r\r30\r")
            terminal.until(records.SECRET)
            return terminal.text()

    await asyncio.to_thread(type_ahead)

    ((_, body),) = changes(daemon)
    assert isinstance(body, dict)
    assert (body["team"], body["name"], body["holder"]) == ("etl", "chat ui", "m.roy")
    assert body["expires_at"] == (NOW + timedelta(days=30)).isoformat()
