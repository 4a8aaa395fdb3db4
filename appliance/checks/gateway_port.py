"""The gateway must be able to listen; a port that another program holds shows only at its start."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "gateway-port"
_GATEWAY: Final = "leeward-gateway.service"


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Ask whether the port is free, or held by the gateway of an earlier release."""
    port = facts.gateway_port
    required = f"port {port} free or held by the gateway"
    if port not in facts.listening_tcp_ports:
        return passed(ID, observed=f"port {port} is free", required=required)
    if _GATEWAY in facts.running_units:
        return passed(ID, observed=f"port {port} is held by the gateway", required=required)
    return failed(
        ID,
        observed=f"port {port} is held by another program",
        required=required,
        remedy=f"Find it with `ss -ltnp sport = :{port}` and stop it, or move it to another port.",
    )
