"""A fake daemon on a real socket, and the console on top of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from appliance.client import ApplianceClient
from console.app import ConsoleApp
from console.capabilities import Capabilities, Profile
from tests.support.fake_daemon import FakeDaemon
from tests.tui.recorded import NOW, stage

GOLDENS = Path(__file__).parent / "goldens"
Stage = Callable[[str], Awaitable[FakeDaemon]]


@pytest.fixture
async def on_stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Start a daemon in a scene; it is stopped with the test."""
    async with AsyncExitStack() as daemons:

        async def start(scene: str) -> FakeDaemon:
            return await daemons.enter_async_context(await stage(scene, tmp_path / "management.sock"))

        yield start


@asynccontextmanager
async def console_on(
    daemon: FakeDaemon, *, size: tuple[int, int] = (120, 36), profile: Profile = Profile.RICH
) -> AsyncIterator[tuple[ConsoleApp, Pilot[None]]]:
    """Run the console without a terminal, against a daemon on its socket, its clock standing still."""
    async with ApplianceClient(daemon.socket) as client:
        app = ConsoleApp(client, Capabilities(profile=profile), now=lambda: NOW)
        async with app.run_test(size=size, notifications=True) as pilot:
            yield app, pilot


async def until(pilot: Pilot[None], condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Let the console go on until a condition holds; raises AssertionError."""
    passed_s = 0.0
    while not condition():
        assert passed_s < timeout_s, f"the console did not come to what was waited for:\n{seen(pilot.app)}"
        await pilot.pause(0.05)
        passed_s += 0.05


def seen(app: ConsoleApp) -> str:
    """Return what the present screen shows, as text."""
    lines = ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]
    return "\n".join(line.rstrip() for line in lines)


def is_golden(name: str, text: str) -> bool:
    """Say whether a text equals its golden, or would now be written as one."""
    path = GOLDENS / f"{name}.txt"
    return "LEEWARD_UPDATE_GOLDENS" in os.environ or (path.exists() and path.read_text() == text + "\n")


def check_golden(name: str, text: str) -> None:
    """Compare with a golden file; LEEWARD_UPDATE_GOLDENS=1 writes it instead."""
    path = GOLDENS / f"{name}.txt"
    if os.environ.get("LEEWARD_UPDATE_GOLDENS"):
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()
