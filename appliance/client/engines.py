"""Typed calls about the engines behind the gateway: a part of `ApplianceClient`."""

from __future__ import annotations

from urllib.parse import quote

from appliance.client.answers import read_answer
from appliance.client.tenants import Asks
from appliance.domain.routing import EngineView


class EngineCalls:
    """What `ApplianceClient` can ask about engines. Every method raises what the daemon raised."""

    async def engines(self: Asks) -> tuple[EngineView, ...]:
        """Return every engine of the settings and how it stands."""
        return read_answer(await self._ask("GET", "/v1/engines"), tuple[EngineView, ...])

    async def drain_engine(self: Asks, name: str, *, is_drained: bool) -> EngineView:
        """Let an engine finish what it has and give it nothing new, or end that. Raises NotFound."""
        method = "PUT" if is_drained else "DELETE"
        return read_answer(await self._ask(method, f"/v1/engines/{quote(name, safe='')}/drain"), EngineView)
