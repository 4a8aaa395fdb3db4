"""The console's app: looks at the node again and again, keeps what it saw, routes between screens.

It holds no logic of the appliance: it asks the management API and draws. Leaving it, in whatever
way, changes nothing on the node. A slow or dead daemon never blocks a key: each look is a worker.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.content import Content

from appliance.domain.errors import DaemonUnreachable
from appliance.domain.operation import OperationId, OperationKind, OperationState
from appliance.domain.status import NodeStatus
from bundles.errors import LeewardError
from console import themes
from console.capabilities import Capabilities, Profile
from console.management import Management
from console.output import GlyphFilter, LeanOutput, QuietDriver
from console.render import text
from console.render.help import help_lines
from console.render.keys import tab_line
from console.screens.base import ConsoleScreen
from console.screens.compliance import ComplianceScreen
from console.screens.health import HealthScreen
from console.screens.install import Answers, InstallScreen
from console.screens.operation import OperationScreen
from console.screens.operations import OperationsScreen
from console.screens.pages import TextPage
from console.screens.passports import PassportsScreen
from console.screens.tenants import TenantsScreen
from console.screens.unreachable import UnreachableScreen
from console.screens.usage import UsageScreen
from console.watch import Watch
from console.written import write_view

if TYPE_CHECKING:
    from textual.screen import Screen

RETRY_S = 3.0
TICK_S = 1.0
DRAW_SOON_S = 0.2
LOOK_TIMEOUT_S = 10.0

TABS = (
    ("1", "Health"),
    ("2", "Operations"),
    ("3", "Usage"),
    ("4", "Keys"),
    ("5", "Passports"),
    ("6", "Compliance"),
)
SCREENS: dict[str, type[ConsoleScreen]] = {
    "usage": UsageScreen,
    "keys": TenantsScreen,
    "passports": PassportsScreen,
    "compliance": ComplianceScreen,
}


class ConsoleApp(LeanOutput, inherit_bindings=False):
    """Shows one node through its management API."""

    CSS_PATH = "console.tcss"
    TITLE = "Leeward"
    COMMAND_PALETTE_BINDING = "colon"
    COMMAND_PALETTE_DISPLAY = ":"
    ENABLE_COMMAND_PALETTE = True
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "Log"),
        Binding("r", "look", "Refresh"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "leave", "Leave"),
        Binding("1", "health", "Health", show=False),
        Binding("2", "operations", "Operations", show=False),
        Binding("3", "open('usage')", "Usage", show=False),
        Binding("4", "open('keys')", "Teams and keys", show=False),
        Binding("5", "open('passports')", "Capacity passports", show=False),
        Binding("6", "open('compliance')", "Compliance", show=False),
        Binding("w", "write", "Write this view to a file", show=False),
        Binding("p", "pause", "Pause live updates", show=False),
        Binding("ctrl+l", "redraw", "Draw the screen again", show=False),
        Binding("ctrl+c", "say_how_to_leave", "How to leave", show=False, priority=True),
        Binding("escape,backspace", "back", "Back", show=False),
    ]

    def __init__(
        self,
        management: Management,
        capabilities: Capabilities,
        *,
        now: Callable[[], datetime],
        lean: bool = True,
        write_to: Path = Path(),
    ) -> None:
        quiet = capabilities.profile is Profile.SERIAL
        super().__init__(
            driver_class=QuietDriver if quiet else None,
            ansi_color=capabilities.profile is not Profile.RICH or not capabilities.color,
        )
        self.management = management
        self.capabilities = capabilities
        self.now = now
        self.lean_wanted = lean
        self.write_to = write_to
        self.observed = Watch()
        self.status: NodeStatus | None = None
        self.answers = Answers()
        self._wake = asyncio.Event()
        self._draw_due = False
        for theme in themes.ALL:
            self.register_theme(theme)
        self._glyphs = GlyphFilter(capabilities.profile)
        self._filters.append(self._glyphs)
        self.theme = self._theme_for(capabilities)

    @property
    def node(self) -> str:
        """The node's name, or what stands for it before it is known."""
        if self.status is not None:
            return self.status.node
        return self.observed.report.node if self.observed.report else "this node"

    @property
    def simulated(self) -> tuple[str, ...]:
        """What the daemon says is not real."""
        return self.status.simulated if self.status else ()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(themes.DARK.variables)

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Textual dies at once on these and leaves the terminal in raw mode.
            loop.add_signal_handler(number, self.exit)
        self.push_screen(UnreachableScreen())
        self.set_interval(TICK_S, self._draw)
        self.look()

    def on_unmount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)

    # What is seen

    @work(exclusive=True, group="look")
    async def look(self) -> None:
        """Look at the node at the profile's pace, for as long as the console lives."""
        while True:
            if not self.observed.paused:
                await self._look_once()
                self._draw()
            pause_s = RETRY_S if self.observed.trouble else self.capabilities.refresh_s
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s)
            except TimeoutError:
                continue

    async def _look_once(self) -> None:
        first = self.status is None
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                self.status = await self.management.status()
                self.observed = self.observed.seen(await self.management.health())
                if self._front is not None and (first or isinstance(self._front, UnreachableScreen)):
                    await self.route()
        except TimeoutError:
            slow = f"It accepted the call but gave no answer within {LOOK_TIMEOUT_S:.0f} s."
            self._failed(DaemonUnreachable(detail=slow, remedy="Run `systemctl status leewardd` on this node."))
        except LeewardError as error:
            self._failed(error)

    def _failed(self, error: LeewardError) -> None:
        now = self.now()
        self.observed = self.observed.failed(error, now=now, retry_at=now + timedelta(seconds=RETRY_S))

    async def route(self) -> None:
        """Open the screen that the node's state asks for. Raises LeewardError."""
        status = self.status
        if status is None or (status.slot is not None and status.unfinished is None):
            self._show(HealthScreen())
        elif status.unfinished is not None:
            self.open_operation(status.unfinished.id)
        else:
            newest = next(iter(await self.management.operations()), None)
            if newest is not None and newest.state in (OperationState.FAILED, OperationState.CANCELED):
                # Why there is no release yet matters more than asking anew.
                self.open_operation(newest.id)
            else:
                self.open_install()

    def look_now(self) -> None:
        """Look at once instead of at the next turn."""
        self._wake.set()

    # What is drawn

    @property
    def _front(self) -> Screen[object] | None:
        """The screen that is shown; none while the app is being taken down."""
        return self.screen if self.is_running and self.screen_stack else None

    def _draw(self) -> None:
        front = self._front
        if isinstance(front, ConsoleScreen):
            front.redraw()

    def draw_soon(self) -> None:
        """Draw shortly; many calls make one drawing."""
        if not self._draw_due:
            self._draw_due = True
            self.set_timer(DRAW_SOON_S, self._draw_late)

    def _draw_late(self) -> None:
        self._draw_due = False
        self._draw()

    def tabs(self, current: str) -> Content:
        """Draw the line of screens."""
        return tab_line(TABS, current, self.size.width - 2)

    def say(self, error: LeewardError) -> None:
        """Show what went wrong and what to do, until it is closed."""
        width = self.size.width - 2
        lines = [
            Content.styled(f"{error.title}.", "bold $error"),
            *text.labelled("Why", error.detail, width),
            *text.labelled("Remedy", error.remedy, width, style="bold"),
            *text.labelled("Code", error.code, width),
        ]
        self.push_screen(TextPage(error.title, lines))

    # Where to go

    def _show(self, screen: ConsoleScreen) -> None:
        while len(self.screen_stack) > 2:  # noqa: PLR2004  Textual's own default screen and one of ours
            self.pop_screen()
        self.switch_screen(screen)

    def open_operation(self, operation_id: OperationId) -> None:
        """Show one operation."""
        self._show(OperationScreen(operation_id))

    def open_install(self, *, at_start: bool = True) -> None:
        """Ask for what an install needs; not `at_start` goes to the last page with the answers kept."""
        self._show(InstallScreen(at_start=at_start))

    @work
    async def start_operation(self, kind: OperationKind, parameters: Mapping[str, str]) -> None:
        """Ask the daemon to start an operation and follow it."""
        try:
            view = await self.management.start(kind, parameters)
        except LeewardError as error:
            self.say(error)
        else:
            self.open_operation(view.id)

    def action_health(self) -> None:
        """Show Health."""
        self._show(HealthScreen())

    def action_operations(self) -> None:
        """Show the list of operations."""
        self._show(OperationsScreen())

    def action_open(self, name: str) -> None:
        """Show one of the screens."""
        self._show(SCREENS[name]())

    def action_install(self) -> None:
        """Ask for what an install needs."""
        self.open_install()

    async def action_back(self) -> None:
        """Go back to the screen below, where there is one."""
        self.go_back()

    def go_back(self) -> None:
        """Go back to the screen below, where there is one."""
        if len(self.screen_stack) > 2:  # noqa: PLR2004  Textual's own default screen and one of ours
            self.pop_screen()

    def action_write(self) -> None:
        """Write the present view to a file of the person at the console."""
        front = self._front
        if not isinstance(front, ConsoleScreen):
            return
        lines = front.view_lines()
        if lines is None:
            self.notify("This page is not written to a file.", timeout=4)
            return
        notes = [f"SIMULATED: {', '.join(self.simulated)}", ""] if self.simulated else []
        try:
            path = write_view(
                self.write_to, node=self.node, screen=front.view_name, at=self.now(), lines=[*notes, *lines]
            )
        except LeewardError as error:
            self.say(error)
        else:
            self.notify(f"Written to {path}", timeout=6)

    def action_look(self) -> None:
        """Look at the node now."""
        self.observed = replace(self.observed, paused=False)
        self.look_now()

    def action_pause(self) -> None:
        """Stop and go on with live updates; a paused screen says so, and its values age."""
        self.observed = replace(self.observed, paused=not self.observed.paused)
        self.look_now()
        self._draw()

    def action_log(self) -> None:
        """Open the log of the present screen."""
        if isinstance(self.screen, ConsoleScreen):
            self.screen.open_log()

    def open_events(self) -> None:
        """Show the node's events."""
        events = self.observed.report.events if self.observed.report else ()
        lines = [Content(f"{event.at:%Y-%m-%d %H:%M:%SZ}  {event.severity.value:<5} {event.text}") for event in events]
        self.push_screen(TextPage("Events", lines or [Content("No event is known.")]))

    def action_help(self) -> None:
        """Open help for the present screen."""
        if isinstance(self.screen, ConsoleScreen):
            self.screen.open_help()

    def open_help_of(self, screen: ConsoleScreen) -> None:
        """Show what a screen means and which keys are live on it."""
        bindings = [active.binding for active in screen.active_bindings.values()]
        keys = [(binding.key_display or binding.key, binding.description) for binding in bindings]
        self.push_screen(TextPage("Help", help_lines(screen.TITLE_WORDS, screen.HELP_LINES, keys)))

    def action_leave(self) -> None:
        """Leave; operations go on."""
        self.exit()

    def action_say_how_to_leave(self) -> None:
        """Answer Ctrl-C: it stops nothing."""
        self.notify("q leaves the console. Operations go on in the daemon.", timeout=4)

    def action_redraw(self) -> None:
        """Send the whole screen again."""
        self.redraw()

    def action_profile(self, name: str) -> None:
        """Change the output profile while running."""
        self.capabilities = Capabilities(profile=Profile(name), color=self.capabilities.color)
        self._glyphs.profile = self.capabilities.profile
        self._glyphs.enabled = self.capabilities.profile in (Profile.VT, Profile.SERIAL)
        self.ansi_color = self.capabilities.profile is not Profile.RICH or not self.capabilities.color
        self.theme = self._theme_for(self.capabilities)
        self.redraw()

    def action_look_of(self, theme: str) -> None:
        """Change the colours."""
        self.theme = theme

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer our words only: Textual's own would write screenshots on the node."""
        del screen
        yield SystemCommand("health", "Show the health of this node", self.action_health)
        yield SystemCommand("operations", "List running and past operations", self.action_operations)
        yield SystemCommand(
            "usage", "Show requests, tokens and what they are worth", partial(self.action_open, "usage")
        )
        yield SystemCommand("keys", "Teams, their limits and their keys", partial(self.action_open, "keys"))
        yield SystemCommand("passports", "What this node was measured to do", partial(self.action_open, "passports"))
        yield SystemCommand("compliance", "How this node is hardened", partial(self.action_open, "compliance"))
        yield SystemCommand("write", "Write this view to a file", self.action_write)
        yield SystemCommand("install", "Install a release from a medium", self.action_install)
        yield SystemCommand("log", "Open the log", self.action_log)
        yield SystemCommand("redraw", "Send the whole screen again", self.action_redraw)
        yield SystemCommand("basic", "ASCII and 16 colours, for serial lines", lambda: self.action_profile("serial"))
        yield SystemCommand("rich", "All glyphs and colours", lambda: self.action_profile("rich"))
        yield SystemCommand("contrast", "High contrast", lambda: self.action_look_of(themes.CONTRAST.name))
        yield SystemCommand("help", "Keys and words of this screen", self.action_help)
        yield SystemCommand("leave", "Leave the console; operations go on", self.action_leave)

    @staticmethod
    def _theme_for(capabilities: Capabilities) -> str:
        rich = capabilities.profile is Profile.RICH and capabilities.color
        return themes.DARK.name if rich else themes.SIXTEEN.name
