"""One operation, followed as the daemon writes it down; closing this changes nothing there."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content

from appliance.domain.events import Progressed
from appliance.domain.operation import OperationId, OperationKind, OperationState, StepName
from appliance.domain.projection import OperationView, fold
from bundles.errors import LeewardError
from console.render import operation
from console.screens.base import ConsoleScreen
from console.screens.pages import Ask, TextPage
from console.widgets.row import Block, Row, Section

RETRY_S = 3.0


class OperationScreen(ConsoleScreen):
    """Steps, what is worked on, the log's tail; at the end what happened and what to do."""

    TABBED = "Operations"
    TITLE_WORDS = "Operation"
    HELP_LINES = (
        "The daemon runs the operation; this console only looks on. Leaving stops nothing.",
        "Stop asks the daemon to stop at the next safe point. Finished steps are not repeated.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Stop..."),
        Binding("r", "again", "Start again"),
    ]

    def __init__(self, operation_id: OperationId) -> None:
        super().__init__()
        self.operation_id = operation_id
        self.view: OperationView | None = None
        self._pace: operation.Pace | None = None
        self._lost = False

    def body(self) -> ComposeResult:
        yield Row(id="step-line")
        with Horizontal(id="main"):
            yield Section("Steps", id="steps")
            yield Section("Work", id="work")
        yield Section("Log", id="log")
        yield Row(id="hint")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#steps", Section).mount(Block(id="step-column"))
        self.query_one("#work", Section).mount(Block(id="work-lines"))
        self.query_one("#log", Section).mount(Block(id="log-lines"))
        self.follow()

    @work(exclusive=True)
    async def follow(self) -> None:
        """Read event records until the operation has ended; come back after a lost daemon."""
        while self.view is None or not self.view.state.ended:
            after = 0 if self.view is None else self.view.last_seq
            try:
                async for record in self.console.management.follow(self.operation_id, after, patience_s=0):
                    self.view = fold(self.view, record)
                    if isinstance(record.event, Progressed):
                        self._pace = operation.pace(self._pace, record.event, record.at)
                    self._lost = False
                    self.console.draw_soon()
            except LeewardError:
                self._lost = True
                self.console.draw_soon()
            await asyncio.sleep(RETRY_S if self._lost else 0)
        self.refresh_bindings()
        self.console.look_now()

    def draw(self) -> None:
        frame = self.frame()
        view = self.view
        if view is None:
            self.strip(Content(f"{self.console.node}   READING THE OPERATION..."), alarming=self._lost)
            return
        failed = view.state is OperationState.FAILED
        top = operation.strip(view, self.console.simulated, frame, unreachable=self._lost)
        self.strip(top, alarming=failed or self._lost)
        self.query_one("#step-line", Row).show(operation.step_line(view, frame))
        self.query_one("#step-column", Block).show_lines(operation.step_column(view, frame))
        self._draw_work(view)
        self._draw_log(view)
        self.query_one("#hint", Row).show(operation.hint(view))

    def _draw_work(self, view: OperationView) -> None:
        section = self.query_one("#work", Section)
        section.border_title = operation.work_title(view)
        frame = self.frame(margin=40 if self.frame().wide else 0)
        # What is left inside the section's border and padding, at either size.
        room = 14
        self.query_one("#work-lines", Block).show_lines(operation.work_lines(view, self._pace, frame, room))

    def _draw_log(self, view: OperationView) -> None:
        room = max(1, self.query_one("#log", Section).size.height)
        self.query_one("#log-lines", Block).show_lines(operation.log_lines(view, self.frame(), room))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer Stop while it runs and Start again once it has not succeeded."""
        del parameters
        ended = self.view is not None and self.view.state.ended
        if action == "stop":
            return self.view is not None and not ended
        if action == "again":
            return ended and self.view is not None and self.view.state is not OperationState.SUCCEEDED
        return True

    def open_log(self) -> None:
        """Open the whole log that the view keeps."""
        self.app.push_screen(TextPage("Log", self._whole_log, follows=True))

    def _whole_log(self) -> list[Content]:
        return [Content(line) for line in self.view.log] if self.view is not None else []

    @work
    async def action_stop(self) -> None:
        """Ask, then ask the daemon to stop at the next safe point."""
        question = Ask(
            "Stop this operation?",
            "It stops at the next safe point. Finished steps stand and are not repeated.",
            yes="stop it",
        )
        if await self.app.push_screen_wait(question):
            try:
                await self.console.management.cancel(self.operation_id)
            except LeewardError as error:
                self.console.say(error)

    def action_again(self) -> None:
        """Start the same kind of operation again, with the answers that this console still has."""
        if self.view is None:
            return
        if self.view.kind in (OperationKind.INSTALL, OperationKind.IMPORT):
            at_medium = self.view.error is None or self.view.current_step is None
            step = self.view.current_step
            self.console.open_install(at_start=at_medium or (step is not None and step.name is StepName.PREFLIGHT))
        else:
            self.console.start_operation(self.view.kind, {})
