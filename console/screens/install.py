"""The install wizard: one question a page; the answers stay while the console lives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Label, OptionList

from appliance.domain.license import RevenueBand
from appliance.domain.operation import OperationKind
from appliance.domain.preflight import Finding
from bundles.errors import LeewardError
from console.render import install, text
from console.screens.base import ConsoleScreen
from console.widgets.row import Block, Row, Section

PAGES = ("medium", "check", "who", "revenue", "terms", "begin")


@dataclass(slots=True, kw_only=True)
class Answers:
    """What was answered so far; the one mutable value of the console."""

    medium: str = ""
    legal_entity: str = ""
    signatory: str = ""
    role: str = ""
    band: RevenueBand | None = None
    accepted: bool = False

    def attestation(self) -> str:
        """Return the statement as the daemon reads it (`appliance.domain.license.statement_from_json`)."""
        return json.dumps({
            "legal_entity": self.legal_entity,
            "signatory": self.signatory,
            "role": self.role,
            "band": self.band.value if self.band else "",
        })  # fmt: skip


class InstallScreen(ConsoleScreen):
    """Asks for the medium, shows the node check, takes the licence statement, begins."""

    TITLE_WORDS = "Install"
    HELP_LINES = (
        "Nothing is changed on this node before the last page, where its name is typed.",
        "Enter goes on, Esc goes back. Esc on the first page leaves the field, then q leaves.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "Next", key_display="Enter"),
        Binding("escape", "previous", "Back", key_display="Esc"),
        Binding("tab", "next_field", "Next field", key_display="Tab"),
        Binding("r", "check", "Check again"),
    ]

    def __init__(self, *, at_start: bool = True) -> None:
        super().__init__()
        self._page = 0 if at_start else len(PAGES) - 1
        self._findings: tuple[Finding, ...] | None = None
        self._refusal: LeewardError | None = None
        self._complaint = ""

    def body(self) -> ComposeResult:
        answers = self.console.answers
        yield Row(id="pages")
        with Vertical(id="medium", classes="page"):
            yield Block(classes="ask")
            yield Input(answers.medium, placeholder="/media/leeward", id="medium-path", select_on_focus=False)
        with Vertical(id="check", classes="page"):
            yield Section("Node check", id="findings")
            yield Block(id="refusal")
        with Vertical(id="who", classes="page"):
            yield Block(classes="ask")
            for name, label in install.WHO_FIELDS:
                yield Label(label)
                yield Input(getattr(answers, name), id=name.replace("_", "-"), select_on_focus=False)
        with Vertical(id="revenue", classes="page"):
            yield Block(classes="ask")
            yield OptionList(*install.BANDS.values(), id="band", markup=False)
        with Vertical(id="terms", classes="page"):
            yield Block(classes="ask")
            yield OptionList("No, do not accept", "Yes, accept", id="accept", markup=False)
        with Vertical(id="begin", classes="page"):
            yield Block(id="summary")
            yield Input(id="node-name", select_on_focus=False)
        yield Row(id="complaint")
        yield Row(id="hint")

    def on_mount(self) -> None:
        super().on_mount()
        for field in self.query(Input):
            # A blinking cursor sends bytes for as long as nobody types.
            field.cursor_blink = False
        for page in PAGES:
            for block in self.query(f"#{page} .ask").results(Block):
                block.show_lines(install.QUESTIONS[page])
        self._open(self._page)

    def shown_keys(self) -> list[tuple[str, str]]:
        """Return the keys; Enter is named even while a field takes it."""
        others = [pair for pair in super().shown_keys() if pair[0] not in ("Enter", "Esc", "q")]
        back = [("Esc", "Back"), ("q", "Leave")] if self._page else [("Esc q", "Leave")]
        return [("Enter", "Next"), *others, *back]

    def draw(self) -> None:
        frame = self.frame()
        status = self.console.status
        slot = status.slot if status else None
        self.strip(install.strip(self.console.node, slot, self.console.simulated, frame), alarming=False)
        self.query_one("#pages", Row).show(install.page_line(PAGES, self._page, frame))
        self.query_one("#complaint", Row).show(Content.styled(self._complaint, "bold $warning"))
        self.query_one("#hint", Row).show(text.muted("Nothing is changed on this node before the last page."))
        inner = self.frame(margin=8 if frame.wide else 4)
        self.query_one("#findings", Section).show_rows(install.finding_rows(self._findings, self._refusal, inner))
        self.query_one("#refusal", Block).show_lines(install.refusal_lines(self._refusal, self._findings, frame))
        self.query_one("#summary", Block).show_lines(install.summary_lines(self.console.answers, self.console.node))

    def _open(self, page: int) -> None:
        self._page = page
        self._complaint = ""
        for place, name in enumerate(PAGES):
            self.query_one(f"#{name}").display = place == page
        fields = [field for field in self.query(f"#{PAGES[page]} Input, #{PAGES[page]} OptionList") if field.can_focus]
        self.set_focus(fields[0] if fields else None)
        self.refresh_bindings()
        self.redraw()
        if PAGES[page] == "check":
            self.action_check()

    # Moving on

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        fields = list(self.query(f"#{PAGES[self._page]} Input").results(Input))
        place = fields.index(event.input)
        if place + 1 < len(fields):
            self.set_focus(fields[place + 1])
        else:
            self.action_next()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_list.id == "band":
            self.console.answers.band = list(install.BANDS)[event.option_index]
        else:
            self.console.answers.accepted = event.option_index == 1
        self.action_next()

    def action_next(self) -> None:
        """Keep this page's answer and go on, or say what is missing."""
        self._keep()
        self._complaint = self._missing()
        if self._complaint:
            self.redraw()
        elif self._page + 1 < len(PAGES):
            self._open(self._page + 1)
        else:
            self._begin()

    def action_previous(self) -> None:
        """Go back one page; on the first, leave the field so that `q` is a key again."""
        self._keep()
        if self._page:
            self._open(self._page - 1)
        else:
            self.set_focus(None)
            self.refresh_bindings()
            self.redraw()

    def action_next_field(self) -> None:
        """Go to the page's next field."""
        self.focus_next()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the check on its page, and Tab where there is more than one field."""
        del parameters
        page = PAGES[self._page]
        if action == "check":
            return page == "check"
        if action == "next_field":
            return page == "who"
        return True

    @work(exclusive=True)
    async def action_check(self) -> None:
        """Ask the daemon whether this node is ready for the release on the medium."""
        self._findings, self._refusal = None, None
        self.redraw()
        try:
            self._findings = await self.console.management.preflight(self.console.answers.medium)
        except LeewardError as error:
            self._refusal = error
        self.redraw()

    def _begin(self) -> None:
        answers = self.console.answers
        parameters = {"medium": answers.medium, "attestation": answers.attestation()}
        self.console.start_operation(OperationKind.INSTALL, parameters)

    def _keep(self) -> None:
        answers = self.console.answers
        answers.medium = self._value("medium-path")
        answers.legal_entity = self._value("legal-entity")
        answers.signatory = self._value("signatory")
        answers.role = self._value("role")

    def _missing(self) -> str:
        """Say what this page still needs; empty where nothing is missing."""
        answers = self.console.answers
        match PAGES[self._page]:
            case "medium":
                return "" if answers.medium.startswith("/") else "Give the whole path of the medium, from / on."
            case "check":
                return self._blocked()
            case "who":
                complete = answers.legal_entity and answers.signatory and answers.role
                return "" if complete else "All three are needed: they stand in the statement."
            case "revenue":
                return "" if answers.band else "Choose one with the arrow keys and Enter."
            case "terms":
                return "" if answers.accepted else "Without acceptance nothing is installed. Esc goes back, q leaves."
            case _:
                typed = self._value("node-name")
                return "" if typed == self.console.node else f"Type the node's name, {self.console.node}, to begin."

    def _blocked(self) -> str:
        if self._findings is None:
            return "The medium cannot be used yet; r checks again." if self._refusal else "The check has not ended."
        blocking = [f for f in self._findings if f.blocking]
        return f"{len(blocking)} blocking; fix and press r to check again." if blocking else ""

    def _value(self, field: str) -> str:
        return self.query_one(f"#{field}", Input).value.strip()
