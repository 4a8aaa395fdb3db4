"""The gateway must be able to listen; a port that another program holds shows only at its start."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gateway-port"
PORT: Final = 8443
_GATEWAY: Final = "leeward-gateway.service"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether the port is free, or held by the gateway of an earlier release."""
    required = f"port {PORT} free or held by the gateway"
    if PORT not in facts.listening_tcp_ports:
        return passed(ID, observed=f"port {PORT} is free", required=required)
    if _GATEWAY in facts.running_units:
        return passed(ID, observed=f"port {PORT} is held by the gateway", required=required)
    return failed(
        ID,
        observed=f"port {PORT} is held by another program",
        required=required,
        remedy=f"Find it with `ss -ltnp sport = :{PORT}` and stop it, or move it to another port.",
    )
