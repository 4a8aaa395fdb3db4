"""Usage: one month's requests and tokens by day, team or model, and what they are worth."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from appliance.domain.usage_report import UsageDimension
from bundles.errors import LeewardError
from console.render import usage
from console.render.frame import Frame
from console.render.listing import Table
from console.render.usage import MonthOfUse
from console.screens.listing import ListScreen
from console.screens.pages import TextPage


class UsageScreen(ListScreen[MonthOfUse]):
    """Bars of the present month; the arrows go to other months."""

    TABBED = "Usage"
    TITLE_WORDS = "Usage"
    LIST_TITLE = "Usage"
    HELP_LINES = (
        "A bar is prompt and completion tokens beside the largest group's.",
        "A day is that of admission, in UTC. Unsettled: admitted, not yet ended.",
        ">= some requests have unknown tokens, which are in no sum.",
        "List price: what the use would have cost; ?? where a model has no price.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "by('day')", "Days"),
        Binding("t", "by('team')", "Teams"),
        Binding("m", "by('model')", "Models"),
        Binding("left", "month(-1)", "Before", key_display="Left"),
        Binding("right", "month(1)", "The month after", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._by = UsageDimension.DAY
        self._since: datetime | None = None

    @property
    def since(self) -> datetime:
        """The month that is shown."""
        return self._since or usage.month_start(self.console.now())

    def words(self) -> str:
        return f"USAGE {self.since:%Y-%m} BY {self._by.value.upper()}"

    async def read(self) -> MonthOfUse:
        ask, since = self.console.management, self.since
        until = usage.next_month(since)
        sums = {by: await ask.usage_sums([by], since=since, until=until) for by in usage.NAMES}
        try:
            costs = await ask.costs(since=since, until=until)
        except LeewardError as error:  # without a price the use itself still stands
            return MonthOfUse(since=since, until=until, sums=sums, costs=error)
        return MonthOfUse(since=since, until=until, sums=sums, costs=costs)

    def above(self, value: MonthOfUse, frame: Frame) -> list[Content]:
        return usage.totals(value, frame)

    def table(self, value: MonthOfUse, frame: Frame) -> Table:
        return usage.table(value, self._by, frame)

    def open_line(self, value: MonthOfUse, key: str) -> None:
        self.app.push_screen(TextPage(f"Usage of {key}, {value.since:%Y-%m}", usage.detail(value, self._by, key)))

    def action_by(self, name: str) -> None:
        """Sum by another dimension."""
        self._by = UsageDimension(name)
        self._selected = 0
        self.redraw()

    def action_month(self, months: int) -> None:
        """Show the month before or after; none that has not begun."""
        step = timedelta(days=-1) if months < 0 else timedelta(days=32)
        since = usage.month_start(self.since + step)
        if since <= self.console.now():
            self._since = since
            self.reading = type(self.reading)()
            self.load()
            self.redraw()
