"""Passports: what this node was measured to do, release by release, and what has become worse."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from appliance.domain.acceptance import PassportView, capacity_alerts, views
from appliance.domain.errors import LeewardError
from appliance.domain.health import Alert, Severity
from appliance.ports import PassportStore

log = structlog.get_logger()


class Passports:
    """Shows passports. `slot` reads which release is current."""

    def __init__(self, store: PassportStore, *, slot: Callable[[], str | None]) -> None:
        self._store = store
        self._slot = slot

    def views(self) -> tuple[PassportView, ...]:
        """Return every passport with what it is compared with, newest first; raises StateUnusable."""
        return views(self._store.passports())

    def alerts(self) -> tuple[Alert, ...]:
        """Return what the newest passport gives a person to do; passports that cannot be read are one alert."""
        try:
            known = self.views()
        except LeewardError as error:
            return (
                Alert(
                    code="capacity-unknown",
                    severity=Severity.WARN,
                    title="The capacity passports cannot be read",
                    advice=f"{error.detail} {error.remedy}",
                    since=None,
                ),
            )
        return capacity_alerts(next(iter(known), None), slot=self._slot())
