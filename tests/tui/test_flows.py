"""The console against a daemon on a real Unix socket, driven by keys."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from textual.pilot import Pilot

from appliance.client import ApplianceClient
from appliance.domain.events import LogLine, OperationSucceeded
from appliance.domain.health import Verdict
from appliance.domain.operation import OperationState
from bundles.errors import MediaMissing
from console.app import ConsoleApp
from console.capabilities import Capabilities, Profile
from console.screens.health import HealthScreen
from console.screens.install import InstallScreen
from console.screens.operation import OperationScreen
from console.screens.operations import OperationsScreen
from console.screens.pages import Ask, TextPage
from console.screens.unreachable import UnreachableScreen
from tests.support.fake_daemon import FakeDaemon
from tests.tui.conftest import Stage, console_on, seen, until
from tests.tui.recorded import BLOCKED, NOW, OPERATION, status

CHANGING = {"POST", "DELETE", "PUT", "PATCH"}


def changes(daemon: FakeDaemon) -> list[tuple[str, object]]:
    """Return what the daemon was asked to change."""
    return [(path, body) for method, path, body in daemon.asked if method in CHANGING]


async def on_screen(pilot: Pilot[None], app: ConsoleApp, kind: type) -> None:
    await until(pilot, lambda: isinstance(app.screen, kind))
    await pilot.pause()


async def write(pilot: Pilot[None], text: str) -> None:
    await pilot.press(*("space" if c == " " else c for c in text))


# Where the console opens


async def test_serving_node_opens_on_health(on_stage: Stage) -> None:
    daemon = await on_stage("warn")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, HealthScreen)
        await until(pilot, lambda: "GPU 2 is hot" in seen(app))

        assert "SIMULATED: gpus" in seen(app)
        assert changes(daemon) == []


async def test_node_without_a_release_opens_on_the_install_wizard(on_stage: Stage) -> None:
    daemon = await on_stage("empty")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, InstallScreen)

        assert "Where is the medium" in seen(app)
        assert changes(daemon) == []


async def test_unfinished_operation_opens_on_its_screen(on_stage: Stage) -> None:
    daemon = await on_stage("importing")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, OperationScreen)
        await until(pilot, lambda: "62 %" in seen(app))

        assert "2/7 Verify and import the release" in seen(app)
        assert "You can close this console: the operation goes on." in seen(app)


async def test_failed_install_of_a_node_without_a_release_opens_on_the_failure(on_stage: Stage) -> None:
    daemon = await on_stage("failed")

    async with console_on(daemon, size=(80, 24)) as (app, pilot):
        await on_screen(pilot, app, OperationScreen)
        await until(pilot, lambda: "Remedy   Check the cable" in seen(app))

        assert "INSTALL FAILED" in seen(app)
        assert "Harm     Nothing unverified was put in use" in seen(app)
        await pilot.press("r")
        await on_screen(pilot, app, InstallScreen)
        assert changes(daemon) == []


# The wizard


async def answer_all(pilot: Pilot[None], app: ConsoleApp) -> None:
    """Answer every page up to the last one."""
    await on_screen(pilot, app, InstallScreen)
    await write(pilot, "/media/leeward")
    await pilot.press("enter")
    await until(pilot, lambda: "Debian 12 (bookworm)" in seen(app))
    await pilot.press("enter")
    for value in ("ACME", "J. Doe", "CTO"):
        await write(pilot, value)
        await pilot.press("enter")
    await until(pilot, lambda: "Global consolidated revenue" in seen(app))
    await pilot.press("down", "enter")
    await until(pilot, lambda: "terms of this release accepted" in seen(app))
    await pilot.press("down", "enter")
    await until(pilot, lambda: "Install this release now?" in seen(app))


async def test_wizard_starts_an_install_with_medium_and_statement(on_stage: Stage) -> None:
    daemon = await on_stage("empty")

    async with console_on(daemon) as (app, pilot):
        await answer_all(pilot, app)
        assert changes(daemon) == []
        await write(pilot, "llm01")
        await pilot.press("enter")
        await on_screen(pilot, app, OperationScreen)

        [(path, body)] = changes(daemon)
        assert path == "/v1/operations"
        assert isinstance(body, dict)
        assert body["kind"] == "install"
        assert body["parameters"]["medium"] == "/media/leeward"
        assert json.loads(body["parameters"]["attestation"]) == {
            "legal_entity": "ACME",
            "signatory": "J. Doe",
            "role": "CTO",
            "band": "50-to-80-percent",
        }


async def test_wizard_begins_nothing_until_the_name_of_the_node_is_typed(on_stage: Stage) -> None:
    daemon = await on_stage("empty")

    async with console_on(daemon) as (app, pilot):
        await answer_all(pilot, app)
        await write(pilot, "llm02")
        await pilot.press("enter")
        await until(pilot, lambda: "Type the node's name, llm01, to begin." in seen(app))

        assert isinstance(app.screen, InstallScreen)
        assert changes(daemon) == []


async def test_wizard_does_not_pass_a_blocking_finding(on_stage: Stage) -> None:
    daemon = await on_stage("empty")
    daemon.findings = BLOCKED

    async with console_on(daemon, size=(80, 24)) as (app, pilot):
        await on_screen(pilot, app, InstallScreen)
        await write(pilot, "/media/leeward")
        await pilot.press("enter")
        await until(pilot, lambda: "3 x NVIDIA H200" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: "1 blocking" in seen(app))

        assert "Reseat the GPU" in seen(app)
        assert "Legal entity" not in seen(app)
        assert changes(daemon) == []


async def test_wizard_says_why_a_medium_cannot_be_read(on_stage: Stage) -> None:
    daemon = await on_stage("empty")
    daemon.refusal = MediaMissing(detail="/media/leeward is empty.", remedy="Mount the medium there.")

    async with console_on(daemon, size=(80, 24)) as (app, pilot):
        await on_screen(pilot, app, InstallScreen)
        await write(pilot, "/media/leeward")
        await pilot.press("enter")
        await until(pilot, lambda: "The medium could not be read." in seen(app))

        assert "Remedy   Mount the medium there." in seen(app)
        daemon.refusal = None
        await pilot.press("r")
        await until(pilot, lambda: "Debian 12 (bookworm)" in seen(app))
        assert "The medium could not be read." not in seen(app)


async def test_wizard_refuses_a_relative_path_and_unaccepted_terms(on_stage: Stage) -> None:
    daemon = await on_stage("empty")

    async with console_on(daemon, size=(80, 24)) as (app, pilot):
        await on_screen(pilot, app, InstallScreen)
        await write(pilot, "media")
        await pilot.press("enter")
        await until(pilot, lambda: "Give the whole path" in seen(app))
        assert not [path for _, path, _ in daemon.asked if "preflight" in path]

        await pilot.press(*["backspace"] * 5)
        await write(pilot, "/m")
        await pilot.press("enter")
        await until(pilot, lambda: "Debian 12 (bookworm)" in seen(app))
        await pilot.press("enter", "a", "enter", "b", "enter", "c", "enter")
        await until(pilot, lambda: "Global consolidated revenue" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: "terms of this release accepted" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Without acceptance nothing is installed." in seen(app))
        assert changes(daemon) == []


async def test_answers_stay_when_one_goes_back(on_stage: Stage) -> None:
    daemon = await on_stage("empty")

    async with console_on(daemon) as (app, pilot):
        await answer_all(pilot, app)
        await pilot.press("escape", "escape", "escape")
        await until(pilot, lambda: "Legal entity" in seen(app))

        assert "ACME" in seen(app)
        assert app.answers.medium == "/media/leeward"


# Operations


async def test_operation_is_followed_as_it_goes_and_ends(on_stage: Stage) -> None:
    daemon = await on_stage("importing")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, OperationScreen)
        await daemon.happen(OPERATION, LogLine(text="part 0005 of 0577 verified"))
        await until(pilot, lambda: "part 0005 of 0577" in seen(app))
        await daemon.happen(OPERATION, OperationSucceeded(summary="all is well"))
        await until(pilot, lambda: "all is well" in seen(app))

        assert "Press 1 for the health of this node" in seen(app)
        assert "Stop..." not in seen(app)


async def test_stop_asks_first_and_no_is_the_default(on_stage: Stage) -> None:
    daemon = await on_stage("importing")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, OperationScreen)
        await until(pilot, lambda: "s Stop..." in seen(app))
        await pilot.press("s")
        await on_screen(pilot, app, Ask)
        await pilot.press("enter")
        await on_screen(pilot, app, OperationScreen)
        assert changes(daemon) == []

        await pilot.press("s")
        await on_screen(pilot, app, Ask)
        await pilot.press("y")
        await until(pilot, lambda: "Asked to stop" in seen(app))
        assert [path for path, _ in changes(daemon)] == [f"/v1/operations/{OPERATION}/cancel"]


@pytest.mark.parametrize("keys", [["q"], ["ctrl+c", "q"]])
async def test_leaving_stops_nothing(on_stage: Stage, keys: list[str]) -> None:
    daemon = await on_stage("importing")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, OperationScreen)
        await pilot.press(*keys)
        await until(pilot, lambda: not app.is_running)

    assert changes(daemon) == []
    assert daemon.view(OPERATION).state is OperationState.RUNNING


async def test_ctrl_c_says_how_to_leave_and_does_not(on_stage: Stage) -> None:
    daemon = await on_stage("importing")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, OperationScreen)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: "q leaves the console. Operations go on" in seen(app))

        assert app.is_running


async def test_log_opens_whole_and_follows(on_stage: Stage) -> None:
    daemon = await on_stage("importing")

    async with console_on(daemon, size=(80, 24)) as (app, pilot):
        await on_screen(pilot, app, OperationScreen)
        await until(pilot, lambda: "part 0004" in seen(app))
        await pilot.press("l")
        await on_screen(pilot, app, TextPage)
        await daemon.happen(OPERATION, *(LogLine(text=f"later line {n}") for n in range(40)))
        await until(pilot, lambda: "later line 39" in seen(app))

        await pilot.press("escape")
        assert isinstance(app.screen, OperationScreen)


async def test_list_of_operations_opens_one(on_stage: Stage) -> None:
    daemon = await on_stage("succeeded")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, HealthScreen)
        await pilot.press("2")
        await on_screen(pilot, app, OperationsScreen)
        await until(pilot, lambda: "26.11.0-e1 serves" in seen(app))
        await pilot.press("down", "enter")
        await on_screen(pilot, app, OperationScreen)


# A daemon that is gone, silent or back


async def test_console_waits_for_a_daemon_that_is_not_there_and_finds_it(on_stage: Stage) -> None:
    daemon = await on_stage("ok")
    await daemon.stop()

    async with console_on(daemon, size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: "DAEMON UNREACHABLE" in seen(app))
        assert isinstance(app.screen, UnreachableScreen)
        assert "Retry in 3 s" in seen(app)
        assert "systemctl status leewardd" in seen(app)

        await daemon.start()
        await pilot.press("r")
        await on_screen(pilot, app, HealthScreen)
        await until(pilot, lambda: "No alerts." in seen(app))


async def test_health_greys_what_it_knew_while_the_daemon_is_gone(on_stage: Stage) -> None:
    daemon = await on_stage("ok")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, HealthScreen)
        await until(pilot, lambda: "585/700 W" in seen(app))
        await daemon.stop()
        await pilot.press("r")
        await until(pilot, lambda: "DAEMON UNREACHABLE" in seen(app))

        assert "585/700 W" in seen(app)
        assert " ok " not in "\n".join(line for line in seen(app).splitlines() if "/700 W" in line)
        assert "SERVING" not in seen(app)

        await daemon.start()
        await pilot.press("r")
        await until(pilot, lambda: "SERVING" in seen(app))
        assert "UNREACHABLE" not in seen(app)


async def test_operation_screen_says_that_the_daemon_is_gone_and_goes_on_where_it_was(on_stage: Stage) -> None:
    daemon = await on_stage("importing")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, OperationScreen)
        await until(pilot, lambda: "part 0004" in seen(app))
        await daemon.stop()
        await until(pilot, lambda: "DAEMON UNREACHABLE" in seen(app))
        await daemon.happen(OPERATION, LogLine(text="written while no console looked"))
        await daemon.start()

        await until(pilot, lambda: "written while no console looked" in seen(app))
        assert seen(app).count("part 0004") == 1
        assert "UNREACHABLE" not in seen(app)


async def test_report_that_does_not_change_any_more_goes_stale(on_stage: Stage) -> None:
    daemon = await on_stage("ok")

    async with ApplianceClient(daemon.socket) as client:
        clock = [NOW]
        app = ConsoleApp(client, Capabilities(profile=Profile.RICH), now=lambda: clock[0])
        async with app.run_test(size=(120, 36)) as pilot:
            await until(pilot, lambda: "SERVING" in seen(app))
            clock[0] = NOW.replace(second=NOW.second + 12)
            await until(pilot, lambda: "No new data for 12 s (last 22:14:03Z)" in seen(app))

            assert "NO FRESH DATA" in seen(app)


# Keys


@pytest.mark.parametrize("scene", ["warn", "empty", "importing", "failed", "succeeded"])
@pytest.mark.parametrize("keys", [[], ["question_mark"], ["l"], ["2"]])
async def test_line_of_keys_fits_80_columns(on_stage: Stage, scene: str, keys: list[str]) -> None:
    daemon = await on_stage(scene)

    async with console_on(daemon, size=(80, 24), profile=Profile.SERIAL) as (app, pilot):
        await until(pilot, lambda: not isinstance(app.screen, UnreachableScreen))
        await pilot.press(*(["escape", *keys] if scene == "empty" else keys))
        await pilot.pause(0.1)
        last = seen(app).splitlines()[-1]

        assert " q Leave" in last or "Esc Back" in last
        assert "…" not in last
        assert not last.endswith(".")
        assert len(last) <= 80


async def test_help_lists_live_keys_and_says_that_leaving_stops_nothing(on_stage: Stage) -> None:
    daemon = await on_stage("ok")

    async with console_on(daemon, size=(80, 36)) as (app, pilot):
        await on_screen(pilot, app, HealthScreen)
        await pilot.press("question_mark")
        await on_screen(pilot, app, TextPage)
        await until(pilot, lambda: "Leaving the console stops nothing" in seen(app))

        assert "ctrl+q" not in seen(app)
        assert "?? not known" in seen(app)


async def test_enter_opens_what_is_behind_a_row(on_stage: Stage) -> None:
    daemon = await on_stage("ok")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, HealthScreen)
        await until(pilot, lambda: app.screen.focused is not None)
        await pilot.press("down", "enter")
        await on_screen(pilot, app, TextPage)
        await until(pilot, lambda: "GPU-00000000-0000" in seen(app))

        await pilot.press("escape")
        assert isinstance(app.screen, HealthScreen)


async def test_palette_holds_our_words_and_no_screenshot(on_stage: Stage) -> None:
    daemon = await on_stage("ok")

    async with console_on(daemon) as (app, pilot):
        await on_screen(pilot, app, HealthScreen)
        await pilot.press("colon")
        await until(pilot, lambda: "Leave the console; operations go on" in seen(app))

        assert "creenshot" not in seen(app)
        await write(pilot, "operations")
        await until(pilot, lambda: "List running and past" in seen(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, OperationsScreen))


async def test_verdict_of_the_daemon_is_shown_as_it_is(on_stage: Stage) -> None:
    daemon = await on_stage("ok")
    daemon.health = replace(daemon.health, verdict=Verdict.DOWN)
    daemon.status = status()

    async with console_on(daemon) as (app, pilot):
        await until(pilot, lambda: "llm01   DOWN" in seen(app))
        assert app.screen.query_one("#strip").has_class("-bad")
