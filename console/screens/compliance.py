"""Compliance: the items of CIS and STIG on this node, what is not met first; and what tried to get out."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from console.render import compliance
from console.render.compliance import Compliance
from console.render.frame import Frame
from console.render.listing import Table
from console.screens.listing import ListScreen
from console.screens.pages import TextPage


class ComplianceScreen(ListScreen[Compliance]):
    """Each item as it is measured now."""

    TABBED = "Compliance"
    TITLE_WORDS = "Compliance"
    LIST_TITLE = "Items, worst first"
    REFRESH_S = 300.0
    HELP_LINES = (
        "ok met; FAIL not met; ?? could not be seen; -- an exception.",
        "Enter shows its reason. Every item is measured on this node.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("e", "egress", "Egress")]

    async def read(self) -> Compliance:
        ask = self.console.management
        return Compliance(findings=await ask.posture(), egress=await ask.egress())

    def above(self, value: Compliance, frame: Frame) -> list[Content]:
        return compliance.summary(value, frame)

    def table(self, value: Compliance, frame: Frame) -> Table:
        return compliance.table(value, frame)

    def open_line(self, value: Compliance, key: str) -> None:
        finding = next(finding for finding in value.findings if finding.id == key)
        self.app.push_screen(TextPage(finding.id, compliance.detail(finding, self.frame().width)))

    def action_egress(self) -> None:
        """Show every try to get out."""
        if self.reading.value is not None:
            self.app.push_screen(TextPage("Egress", compliance.egress_lines(self.reading.value.egress)))
