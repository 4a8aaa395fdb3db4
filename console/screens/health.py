"""Health: the node at one look, worst first, quiet when all is well."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from console.render import detail, health
from console.screens.base import ConsoleScreen
from console.screens.pages import TextPage
from console.widgets.row import Section

ALERTS_SHOWN = 3


class HealthScreen(ConsoleScreen):
    """Verdict, alerts, GPUs, service, system, events."""

    TABBED = "Health"
    TITLE_WORDS = "Health"
    HELP_LINES = (
        "ok; WARN look soon; FAIL act now; ?? not known; -- does not apply.",
        "Grey values with ?? are old: the daemon gave nothing newer.",
        "ECC counts are corrected/uncorrected since the driver was loaded.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open", key_display="Enter")]

    def body(self) -> ComposeResult:
        yield Section("Alerts", id="alerts", openable=True)
        yield Section("GPUs", id="gpus", openable=True)
        yield Section("Service", id="service", openable=True)
        yield Section("System", id="system", openable=True)
        yield Section("Events", id="events")

    def draw(self) -> None:
        app, watch = self.console, self.console.observed
        stale = watch.is_stale(app.now(), app.capabilities.stale_after_s)
        outer = self.frame(stale=stale)
        inner = self.frame(margin=4 if outer.wide else 0, stale=stale)
        self.strip(health.strip(watch, app.node, outer), alarming=health.is_alarming(watch))
        lines = health.banner(watch, outer)
        report = watch.report
        if report is not None:
            for alert in report.alerts[:ALERTS_SHOWN]:
                lines.extend(health.alert_lines(alert, outer))
            lines.extend(health.more_alerts(report, ALERTS_SHOWN))
        self._section("alerts").show_rows(lines)
        for name in ("gpus", "service", "system", "events"):
            self._section(name).display = report is not None
        if report is None:
            return
        if self.focused is None:
            self.call_after_refresh(self._focus_first)
        gpus = self._section("gpus")
        gpus.note(health.gpus_note(report), beside_title=not outer.wide)
        gpus.show_rows(health.gpu_rows(report, watch.history, inner), quiet=(0,))
        self._section("service").show_rows(health.service_rows(report, watch.history, inner))
        self._section("system").show_rows(health.system_rows(report, inner))
        self._section("events").show_rows([health.event_line(event, inner) for event in report.events])

    def _focus_first(self) -> None:
        if self.focused is None:
            self.focus_next()

    def action_open(self) -> None:
        """Open what the focused row is about."""
        report = self.console.observed.report
        if report is None:
            return
        for name in ("alerts", "gpus", "service", "system"):
            place = self._section(name).index_of(self.focused)
            if place is not None:
                title, lines = detail.about(name, place, report)
                self.app.push_screen(TextPage(title, lines))

    def _section(self, name: str) -> Section:
        return self.query_one(f"#{name}", Section)
