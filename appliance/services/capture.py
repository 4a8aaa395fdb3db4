"""Switching content capture on and off: each act twice in the audit log, and a standing notice meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from appliance.domain.capture import LONGEST_CAPTURE, CaptureOrder
from appliance.domain.errors import LeewardError, RequestInvalid
from appliance.domain.health import Alert, Severity
from appliance.domain.operation import Actor
from appliance.ports import AuditLog, Clock
from bundles.capture import auditor_key, fingerprint

_LONGEST_REASON = 500


class CaptureOrders(Protocol):
    """Where the order is kept for the gateway. Raises StateUnusable."""

    def read(self) -> CaptureOrder | None: ...

    def write(self, order: CaptureOrder | None) -> None: ...


class ContentCapture:
    """Whether prompts and answers are kept, sealed for an auditor. Off by default."""

    def __init__(self, *, orders: CaptureOrders, audit: AuditLog, clock: Clock) -> None:
        self._orders = orders
        self._audit = audit
        self._clock = clock

    def order(self) -> CaptureOrder | None:
        """Return the order that holds now. Raises StateUnusable."""
        order = self._orders.read()
        return order if order is not None and order.holds(self._clock.now()) else None

    def switch_on(self, *, auditor_pem: str, reason: str, lasts: timedelta, actor: Actor) -> CaptureOrder:
        """Capture from now on, for a time. Raises RequestInvalid, StateUnusable, SignatureRefused for no key."""
        reason = reason.strip()
        if not reason or len(reason) > _LONGEST_REASON or not reason.isprintable():
            raise RequestInvalid(
                detail="Content is captured for a reason that people can read.",
                remedy=f"Give it in one line of at most {_LONGEST_REASON} characters.",
            )
        if not timedelta(0) < lasts <= LONGEST_CAPTURE:
            raise RequestInvalid(
                detail=f"Capture lasts for at most {LONGEST_CAPTURE.days} days.", remedy="Give a shorter time."
            )
        now = self._clock.now()
        order = CaptureOrder(
            auditor_pem=auditor_pem,
            auditor=fingerprint(auditor_key(auditor_pem.encode())),
            reason=reason,
            by=actor.name,
            since=now,
            until=now + lasts,
        )
        details = {"reason": reason, "until": order.until.isoformat()}
        self._act(actor, "capture.on", order.auditor, details, order)
        return order

    def switch_off(self, actor: Actor) -> None:
        """Capture nothing from now on; what was captured stays. Raises StateUnusable."""
        self._act(actor, "capture.off", "content", {}, None)

    def alerts(self) -> tuple[Alert, ...]:
        """Return the standing notice while content is captured, or an alert where that is not known."""
        try:
            order = self.order()
        except LeewardError as error:
            return (
                Alert(
                    code="capture-unknown",
                    severity=Severity.WARN,
                    title="It is not known whether content shall be captured; it is not",
                    advice=f"{error.detail} {error.remedy}",
                    since=None,
                ),
            )
        if order is None:
            return ()
        return (
            Alert(
                code="capture-on",
                severity=Severity.WARN,
                title=f"Prompts and answers are captured until {order.until:%Y-%m-%d %H:%M} UTC",
                advice=f"{order.by} switched it on, sealed for the key {order.auditor[:16]}…: {order.reason} "
                "Tell the people concerned. `leeward capture off` ends it.",
                since=order.since,
            ),
        )

    def _act(
        self, actor: Actor, action: str, object_: str, details: dict[str, str], order: CaptureOrder | None
    ) -> None:
        def record(outcome: str, **more: str) -> None:
            self._audit.append(
                actor=actor.name, action=action, object_=object_, outcome=outcome, details=details | more
            )

        record("begun")
        try:
            self._orders.write(order)
        except LeewardError as error:
            record("failed", code=error.code)
            raise
        record("succeeded")
