"""Typed calls about content capture: a part of `ApplianceClient`."""

from __future__ import annotations

from appliance.client.answers import read_answer
from appliance.client.tenants import Asks
from appliance.domain.capture import CaptureOrder


class CaptureCalls:
    """What `ApplianceClient` can ask about content capture. Every method raises what the daemon raised."""

    async def capture(self: Asks) -> CaptureOrder | None:
        """Return the order that holds now, if one does."""
        answer = await self._ask("GET", "/v1/capture")
        return None if answer is None else read_answer(answer, CaptureOrder)

    async def capture_on(self: Asks, *, auditor_pem: str, reason: str, lasts_s: int) -> CaptureOrder:
        """Capture from now on, for a time. Raises RequestInvalid, SignatureRefused."""
        body = {"auditor_pem": auditor_pem, "reason": reason, "lasts_s": lasts_s}
        return read_answer(await self._ask("PUT", "/v1/capture", json=body), CaptureOrder)

    async def capture_off(self: Asks) -> None:
        """Capture nothing from now on."""
        await self._ask("DELETE", "/v1/capture")
